"""scikit-learn estimators, and event sequences that scikit-learn's splitters separate by client."""
