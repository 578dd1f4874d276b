"""Several online models per decision: scored, arbitrated, compiled to integer programs."""

from __future__ import annotations

from mlproxy.learn.bandit import Policy, bandit
from mlproxy.learn.canary import Canary, Doubts
from mlproxy.learn.candidate import (
    Candidate,
    CandidateRecipe,
    Compiled,
    Features,
    Measured,
    PredictorDefaults,
    Size,
)
from mlproxy.learn.learner import DEFAULT, Learner, Proposal
from mlproxy.learn.linear import linear
from mlproxy.learn.policy import ArbitrationPolicy
from mlproxy.learn.shared import Claim, ResourceArbiter
from mlproxy.learn.spec import DecisionSpec, FeatureSpec, StreamSpec
from mlproxy.learn.trees import hatr, htr

__all__ = (
    "DEFAULT",
    "ArbitrationPolicy",
    "Canary",
    "Candidate",
    "CandidateRecipe",
    "Claim",
    "Compiled",
    "DecisionSpec",
    "Doubts",
    "FeatureSpec",
    "Features",
    "Learner",
    "Measured",
    "Policy",
    "PredictorDefaults",
    "Proposal",
    "ResourceArbiter",
    "Size",
    "StreamSpec",
    "bandit",
    "hatr",
    "htr",
    "linear",
)
