"""The profiles of services: whole, what they change, and that OpenAI's is what no setting means."""

from collections.abc import Mapping
from typing import get_args

import pytest

from batcher.config.sections import ServiceSection
from batcher.core.failures import ErrorDetails
from batcher.service.answers import parse_remote_batch
from batcher.service.profiles import Ability, find_profile, list_profiles, load_profile
from tests.support.api_kit import told

HOST = "https://ana.openai.azure.com"


def test_the_settings_name_the_profiles_and_abilities_that_the_data_has() -> None:
    fields = ServiceSection.model_fields
    assert set(list_profiles()) == set(get_args(get_args(fields["profile"].annotation)[0]))
    lacks = get_args(fields["lacks"].annotation)[0]
    assert get_args(lacks) == get_args(Ability)
    for name in list_profiles():
        assert set(load_profile(name).lacks) <= set(get_args(Ability))


def test_no_setting_is_openai() -> None:
    assert find_profile(None) == find_profile("openai") == load_profile()
    assert (load_profile().window, load_profile().purpose, load_profile().lacks) == ("24h", "batch", ())


def test_single_facts_are_changed_beside_the_profile() -> None:
    found = find_profile("compatible", ("metadata", "file_expiry"), "48h", "batch-api")
    assert (found.window, found.purpose) == ("48h", "batch-api")
    assert found.lacks == ("file_expiry", "metadata")
    assert found.has("list_batches") and not found.has("metadata")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Validating", "validating"),
        ("COMPLETED", "completed"),
        ("canceled", "cancelled"),
        ("SUCCESS", "completed"),
        ("TIMEOUT_EXCEEDED", "expired"),
        ("scheduling", "scheduling"),
        ("error", "error"),
    ],
)
@pytest.mark.parametrize("name", list_profiles())
def test_what_a_status_means(name: str, said: str, meant: str) -> None:
    assert parse_remote_batch(told(status=said), 1.0, load_profile(name)).status == meant


def test_codes_of_its_own_become_openai_s() -> None:
    azure = load_profile("azure")
    assert azure.translate_error(ErrorDetails(404, "DeploymentNotFound")).code == "model_not_found"
    assert azure.translate_error(ErrorDetails(404, "else")).code == "else"
    assert load_profile().translate_error(ErrorDetails(404, "DeploymentNotFound")).code == "DeploymentNotFound"
    errors = {"data": [{"code": "model_mismatch", "message": "no", "line": 3}]}
    assert parse_remote_batch(told(errors=errors), 1.0, azure).errors[0].code == "model_not_found"


@pytest.mark.parametrize(
    ("environment", "address", "path"),
    [
        ({"AZURE_OPENAI_ENDPOINT": HOST}, f"{HOST}/openai/v1", "/v1/responses"),
        ({"AZURE_OPENAI_ENDPOINT": f"{HOST}/openai/v1/"}, f"{HOST}/openai/v1", "/v1/responses"),
        (
            {"AZURE_OPENAI_ENDPOINT": f"{HOST}/", "OPENAI_API_VERSION": "2024-10-21"},
            f"{HOST}/openai",
            "/responses",
        ),
        ({"OPENAI_BASE_URL": f"{HOST}/openai/v1/"}, f"{HOST}/openai/v1", "/v1/responses"),
        ({}, "an address that AZURE_OPENAI_ENDPOINT does not set", "/v1/responses"),
    ],
)
def test_the_address_of_azure(environment: Mapping[str, str], address: str, path: str) -> None:
    found = find_profile("azure", environment=environment)
    assert found.read_address(environment) == address
    assert found.format_path("/v1/responses") == path
    assert found.api_version == environment.get("OPENAI_API_VERSION", "")
    assert not find_profile("compatible", environment=environment).api_version


def test_lacks_is_for_other_services_alone() -> None:
    with pytest.raises(ValueError, match='set profile = "compatible" as well'):
        ServiceSection(lacks=("metadata",))
    assert ServiceSection(profile="compatible", lacks=("metadata",)).lacks == ("metadata",)
