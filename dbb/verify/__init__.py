"""The registry against its archives: `verify` says what is wrong, and repairs what is beyond doubt."""

from dbb.verify.state import Findings, Problem
from dbb.verify.verify import Question, verify

__all__ = ["Findings", "Problem", "Question", "verify"]
