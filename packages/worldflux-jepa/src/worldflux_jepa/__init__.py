"""World models in representation space: JEPA, V-JEPA 2, and frozen encoders that others trained."""
