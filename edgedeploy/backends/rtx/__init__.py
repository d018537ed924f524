"""TensorRT for RTX: engines built here, ahead of time, without a GPU."""
