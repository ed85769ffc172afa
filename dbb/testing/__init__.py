"""Contract tests for authors of plug-ins: subclass one, return yours from its fixture, and pytest runs the contract.

Each hook has one. In a test module of the plug-in::

    from dbb.testing import MapperContract

    class TestMyCamera(MapperContract):
        @pytest.fixture
        def mapper(self):
            return my_plugin.dbb_mappers()[0]
"""

from __future__ import annotations

from dbb.testing._contracts import (
    CommandsContract,
    FiletypesContract,
    GatherMetadataContract,
    MapperContract,
    ReadPipelineContract,
    StageInContract,
    TranslateHeaderContract,
)
from dbb.testing._engines import EngineContract, EngineRuns
from dbb.testing._inputs import GroupInputsContract, QueryInputsContract
from dbb.testing._jobs import MessagePatternsContract, PrepareStepContract, StageOutContract

__all__ = [
    "CommandsContract",
    "EngineContract",
    "EngineRuns",
    "FiletypesContract",
    "GatherMetadataContract",
    "GroupInputsContract",
    "MapperContract",
    "MessagePatternsContract",
    "PrepareStepContract",
    "QueryInputsContract",
    "ReadPipelineContract",
    "StageInContract",
    "StageOutContract",
    "TranslateHeaderContract",
]
