"""A Hugging Face encoder of texts, on torch or OpenVINO."""
