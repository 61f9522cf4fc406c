"""Generalisation: what theory says of errors on unseen data, natural and robust, in closed form or with proved bounds.

Every bound says whether it is vacuous.
"""

from withstand.generalisation.bernoulli_model import bernoulli_error, bernoulli_table, thresholded_error
from withstand.generalisation.bound import Bound, Table
from withstand.generalisation.correlation import (
    correlated_kl,
    correlation_divergence,
    layer_divergence,
    weight_correlation,
)
from withstand.generalisation.experiments import experiment, rademacher_table
from withstand.generalisation.gaussian_model import gaussian_errors, gaussian_table
from withstand.generalisation.gibbs import GibbsRisk, gibbs_risk
from withstand.generalisation.layers import Layer, layers_of
from withstand.generalisation.one_hidden_layer import robust_margin_bound
from withstand.generalisation.pac_bayes import binary_kl, catoni, gaussian_kl, kl_inverse, maurer, mcallester
from withstand.generalisation.rademacher import Rademacher, adversarial_supremum, linear_rademacher

__all__ = [
    "Bound",
    "GibbsRisk",
    "Layer",
    "Rademacher",
    "Table",
    "adversarial_supremum",
    "bernoulli_error",
    "bernoulli_table",
    "binary_kl",
    "catoni",
    "correlated_kl",
    "correlation_divergence",
    "experiment",
    "gaussian_errors",
    "gaussian_kl",
    "gaussian_table",
    "gibbs_risk",
    "kl_inverse",
    "layer_divergence",
    "layers_of",
    "linear_rademacher",
    "maurer",
    "mcallester",
    "rademacher_table",
    "robust_margin_bound",
    "thresholded_error",
    "weight_correlation",
]
