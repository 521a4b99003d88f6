"""OpenFace 2.2's model files as plain data: dataclasses, readers, and the store that finds them."""

from __future__ import annotations

from pyfaceau.weights.cache import array_digest, derived_arrays
from pyfaceau.weights.models import (
    CNN,
    PDM,
    AUPredictors,
    CCNFPatches,
    CENPatches,
    Conv,
    Dense,
    LandmarkModel,
    Layer,
    LinearModels,
    MaxPool,
    MTCNNWeights,
    Part,
    PReLU,
    ReLU,
    Sigmoid,
    SVRPatches,
    Validator,
    ValidatorView,
)
from pyfaceau.weights.source import ModelSource, choose_landmark_model, find_models, landmark_models
from pyfaceau.weights.store import load_au_predictors, load_landmark_model, load_mtcnn

__all__ = [
    "CNN",
    "PDM",
    "AUPredictors",
    "CCNFPatches",
    "CENPatches",
    "Conv",
    "Dense",
    "LandmarkModel",
    "Layer",
    "LinearModels",
    "MTCNNWeights",
    "MaxPool",
    "ModelSource",
    "PReLU",
    "Part",
    "ReLU",
    "SVRPatches",
    "Sigmoid",
    "Validator",
    "ValidatorView",
    "array_digest",
    "choose_landmark_model",
    "derived_arrays",
    "find_models",
    "landmark_models",
    "load_au_predictors",
    "load_landmark_model",
    "load_mtcnn",
]
