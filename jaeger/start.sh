#!/bin/sh
# Jaeger's entry point in compose/obs.yaml: puts the addresses into the UI's configuration, which doesn't expand variables,
# and becomes Jaeger.
set -eu
# A lake is called as its pipeline unless PIPELINE_LAKE_NAME says otherwise.
lake=${LAKE_NAME:-'#{service.namespace}'}
sed -e "s|@GRAFANA_URL@|$GRAFANA_URL|g" \
    -e "s|@REPORT_URL@|$REPORT_URL|g" \
    -e "s|@LINEAGE_URL@|$LINEAGE_URL|g" \
    -e "s|@NAMESPACE@|$LINEAGE_NAMESPACE|g" \
    -e "s|@LAKE@|$lake|g" \
    /etc/jaeger/ui.json >/tmp/ui.json
exec /cmd/jaeger/jaeger-linux --config=/etc/jaeger/jaeger.yaml
