"""How a loss is minimised: natural gradients, layer transforms, views of curvature.

Nothing here imports the rest of tfzoo.
"""

from tfzoo.optimizers.conjugate_gradient import (
    ConjugateGradientResult,
    conjugate_gradient,
)
from tfzoo.optimizers.curvature_products import (
    Linearization,
    dense_fisher,
    dense_matrix,
    fisher_product,
    gauss_newton_product,
    hessian_product,
    mean_kl_divergence,
)
from tfzoo.optimizers.flattened import FlattenedOptimizer
from tfzoo.optimizers.kfac import KFAC
from tfzoo.optimizers.layer_transforms import (
    GradientCentralization,
    LARSScaling,
    LayerTransform,
    LayerwiseClipping,
    OrthogonalizedMomentum,
)
from tfzoo.optimizers.layerwise import LayerwiseOptimizer
from tfzoo.optimizers.loss_surface import (
    LossSurfaceSlice,
    draw_loss_surface,
    filter_normalized_direction,
    loss_surface_slice,
)
from tfzoo.optimizers.natural_gradient import NaturalGradient
from tfzoo.optimizers.output_distributions import (
    BernoulliOutputs,
    CategoricalOutputs,
    GaussianOutputs,
    Likelihood,
    OutputDistribution,
)
from tfzoo.optimizers.second_order_model import (
    ForwardPass,
    SecondOrderModel,
    SecondOrderTraining,
    second_order,
)
from tfzoo.optimizers.shampoo import Shampoo
from tfzoo.optimizers.spectrum import (
    hutchinson_diagonal,
    hutchinson_trace,
    lanczos,
    spectral_density,
    top_eigenvalues,
)

__all__ = [
    "KFAC",
    "BernoulliOutputs",
    "CategoricalOutputs",
    "ConjugateGradientResult",
    "FlattenedOptimizer",
    "ForwardPass",
    "GaussianOutputs",
    "GradientCentralization",
    "LARSScaling",
    "LayerTransform",
    "LayerwiseClipping",
    "LayerwiseOptimizer",
    "Likelihood",
    "Linearization",
    "LossSurfaceSlice",
    "NaturalGradient",
    "OrthogonalizedMomentum",
    "OutputDistribution",
    "SecondOrderModel",
    "SecondOrderTraining",
    "Shampoo",
    "conjugate_gradient",
    "dense_fisher",
    "dense_matrix",
    "draw_loss_surface",
    "filter_normalized_direction",
    "fisher_product",
    "gauss_newton_product",
    "hessian_product",
    "hutchinson_diagonal",
    "hutchinson_trace",
    "lanczos",
    "loss_surface_slice",
    "mean_kl_divergence",
    "second_order",
    "spectral_density",
    "top_eigenvalues",
]
