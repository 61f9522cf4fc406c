"""Models and data that come with the package: three small networks on scikit-learn's 8x8 digits."""
