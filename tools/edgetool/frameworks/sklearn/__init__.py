"""Estimators of scikit-learn: a converter for each family, and what the estimator itself answers to compare with."""
