#!/bin/sh
# Jaeger's entry point in compose/obs.yaml: puts the addresses into the UI's configuration, which doesn't expand variables,
# and becomes Jaeger.
set -eu
sed -e "s|@GRAFANA_URL@|$GRAFANA_URL|g" \
    -e "s|@REPORT_URL@|$REPORT_URL|g" \
    -e "s|@LINEAGE_URL@|$LINEAGE_URL|g" \
    -e "s|@NAMESPACE@|$LINEAGE_NAMESPACE|g" \
    /etc/jaeger/ui.json >/tmp/ui.json
exec /cmd/jaeger/jaeger-linux --config=/etc/jaeger/jaeger.yaml
