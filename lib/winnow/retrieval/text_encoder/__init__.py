"""Text encoders from Hugging Face directories, on torch or OpenVINO."""
