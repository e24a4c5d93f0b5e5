"""Whether a module stays on the device of its inputs: run on "meta", where a tensor made on a CPU raises."""


def check_device(call, module, *inputs):
    """Forward and backward on "meta" give the shapes of a CPU, and leave nothing on it."""
    expected = call(*inputs)
    module.to("meta")
    found = call(*(one.to("meta") for one in inputs))
    assert (found.device.type, found.shape) == ("meta", expected.shape)
    found.sum().backward()
    assert {p.device.type for p in module.parameters() if p.grad is not None} == {"meta"}
