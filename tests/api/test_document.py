"""The OpenAPI document: what every route takes, answers and refuses is described, and shown by an example."""

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it publishes no types

from mpesa_mcp.api.app import create_api

JSON, ERROR = "application/json", "#/components/schemas/ErrorAnswer"


def test_every_route_shows_valid_examples_of_what_it_takes_and_answers_and_refuses_in_one_shape() -> None:
    document = create_api(None).openapi()  # type: ignore[arg-type] # nobody is answered, so nothing is needed
    for schema in document["components"]["schemas"].values():
        # So that an example with a field that there is not is no valid one.
        schema.setdefault("additionalProperties", "properties" not in schema)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["description"], where
            if body := operation.get("requestBody"):
                assert_shown(body["content"], document, where)
            for status, answer in operation["responses"].items():
                if not status.startswith("2"):
                    assert answer["content"][JSON]["schema"] == {"$ref": ERROR}, where
                elif status != "204":
                    assert_shown(answer["content"], document, f"{where} {status}")


def assert_shown(content: dict[str, Any], document: dict[str, Any], where: str) -> None:
    """That each kind of content has a valid example, and what is JSON is an object."""
    assert content, where
    for kind, described in content.items():
        schema = described["schema"]
        if kind == JSON:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            # No other answer could ever say more, for example where a list goes on.
            assert schema["type"] == "object", where
        assert schema["examples"], where
        checker = Draft202012Validator(schema | {"components": document["components"]}, format_checker=FormatChecker())
        for shown in schema["examples"]:
            wrong = [f"{error.json_path}: {error.message}" for error in checker.iter_errors(shown)]
            assert wrong == [], where
