"""The manifest of a repository that is made elsewhere is that of one made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from demo_survey import DemoSurvey

from dbb.butler import materialize_manifest, materialize_repo, plan_repo
from dbb.butler.spec import CalibSpec, InputSpec, OutputSpec, RepoSpec


