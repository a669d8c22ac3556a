"""OpenLineage's specification as it was published: validates events, and each facet by the schema of its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
from referencing import Registry, Resource

Event = dict[str, Any]

CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
OURS = Path(__file__).parents[2] / "pipeline/telemetry/goldtrace_facet.schema.json"
# Where a facet stands, and the end of its schema file's name.
PLACES = {"run": "RunFacet", "job": "JobFacet", "facets": "DatasetFacet", "inputFacets": "InputDatasetFacet", "outputFacets": "OutputDatasetFacet"}
ENDS = ("InputDatasetFacet", "OutputDatasetFacet", "DatasetFacet", "RunFacet", "JobFacet", "Facet")


def facets_of(event: Event) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every facet of an event as (place, key, facet)."""
    for owner, place, group in [
        (event["run"], "facets", "run"),
        (event["job"], "facets", "job"),
        *((each, place, place) for each in (*event["inputs"], *event["outputs"]) for place in ("facets", "inputFacets", "outputFacets")),
    ]:
        for key, facet in (owner.get(place) or {}).items():
            yield PLACES[group], key, facet


class Specification:
    """The schemas in a folder: `OpenLineage.json`, and `facets/`."""

    def __init__(self, folder: Path) -> None:
        schemas = {path.stem: json.loads(path.read_text()) for path in sorted([*(folder / "facets").glob("*.json"), folder / "OpenLineage.json"])}
        self._registry: Registry[Any] = Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()])
        self._facets = {
            (key, next(end for end in ENDS if stem.endswith(end))): self._validator(schema["$id"])
            for stem, schema in schemas.items()
            if stem != "OpenLineage"
            for key in schema.get("properties", {})
        }
        # The specification has one schema for assertions, whatever their place.
        self._facets["dataQualityAssertions", "InputDatasetFacet"] = self._facets["dataQualityAssertions", "DatasetFacet"]
        self._event = self._validator(f"{CORE}#/$defs/RunEvent")
        self._ours = jsonschema.Draft202012Validator(json.loads(OURS.read_text()))

    def validate(self, event: Event) -> set[str]:
        """Validate an event with all its facets, and return the facets' names.

        Raises:
            jsonschema.ValidationError: it, or a facet, is not as specified.
            AssertionError: a facet is not one of the specification's, and not ours.
        """
        self._event.validate(event)
        for place, key, facet in facets_of(event):
            if key == "goldtrace":
                self._ours.validate(facet)
                continue
            assert (key, place) in self._facets, f"{key} is not a core facet of {place}"
            self._facets[key, place].validate({key: facet})
        return {key for _, key, _ in facets_of(event)}

    def _validator(self, reference: str) -> jsonschema.Draft202012Validator:
        return jsonschema.Draft202012Validator({"$ref": reference}, registry=self._registry)
