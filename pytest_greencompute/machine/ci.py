"""Whether this is a build of CI, where a gate is stricter, and whether GitHub Actions runs it."""

from __future__ import annotations

from collections.abc import Mapping

# What CI systems set for every build. CI itself is asked first.
VARIABLES = (
    "APPVEYOR",
    "BITBUCKET_BUILD_NUMBER",
    "BITRISE_IO",
    "BUDDY",
    "BUILD_NUMBER",  # Jenkins and TeamCity; pytest takes it for CI, too
    "BUILDKITE",
    "CF_BUILD_ID",  # Codefresh
    "CIRCLECI",
    "CIRRUS_CI",
    "CODEBUILD_BUILD_ID",  # AWS
    "CONTINUOUS_INTEGRATION",
    "DRONE",
    "GITEA_ACTIONS",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "GO_PIPELINE_NAME",
    "HARNESS_BUILD_ID",
    "HUDSON_URL",
    "JENKINS_URL",
    "PROW_JOB_ID",
    "SCREWDRIVER",
    "SEMAPHORE",
    "TASKCLUSTER_ROOT_URL",
    "TEAMCITY_VERSION",
    "TF_BUILD",  # Azure Pipelines
    "TRAVIS",
    "WOODPECKER",
    "bamboo_buildNumber",
)
NO = ("0", "false", "no", "off", "n", "f", "none", "null")


def in_github_actions(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def in_ci(environ: Mapping[str, str]) -> bool:
    """Whether CI, or another variable of a CI system, is set to anything but a no. A no in CI itself wins over the others."""
    said = environ.get("CI", "").strip().lower()
    if said:
        return said not in NO
    return any(environ.get(name, "").strip().lower() not in ("", *NO) for name in VARIABLES)


def as_in_ci(environ: Mapping[str, str]) -> dict[str, str]:
    """The same environment as if this were CI."""
    return {**environ, "CI": "true"}
