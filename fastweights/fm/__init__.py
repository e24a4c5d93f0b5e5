"""Factorization machines as scikit-learn estimators (extra `fm`): fit, predict, no learning rate.

`FactorizationMachineRegressor` and `FactorizationMachineClassifier` take numpy arrays and scipy's sparse matrices. As a
torch module the machine is `fastweights.zoo.FactorizationMachine`; `module()` of a fitted regressor is one.
"""

from fastweights.fm.estimators import FactorizationMachineClassifier, FactorizationMachineRegressor

__all__ = ["FactorizationMachineClassifier", "FactorizationMachineRegressor"]
