"""Where divergences end: labels that do not fit, nothing to compare, a student that answers all classes
alike."""

import pytest
import torch

from snnkd import losses
from snnkd.errors import UsageError


@pytest.mark.parametrize("name", ["dkd", "wsld"])
@pytest.mark.parametrize("labels", [torch.tensor([2]), torch.zeros(4, 1, dtype=torch.long), torch.zeros(4)])
def test_labels_of_another_shape_are_refused(name, labels):
    with pytest.raises(UsageError, match=f"{name}: labels of shape"):
        getattr(losses, name)(torch.zeros(4, 5), torch.zeros(4, 5), labels=labels)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_student_without_spikes_gets_a_bounded_gradient_from_dist(dtype):
    student = torch.zeros(64, 10, dtype=dtype, requires_grad=True)
    teacher = 3 * torch.randn(64, 10, dtype=dtype, generator=torch.Generator().manual_seed(0))
    losses.dist(student, teacher).backward()
    assert 0 < student.grad.abs().max() < 50


@pytest.mark.parametrize("name", ["kl", "hta_kl", "akl", "dist"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 1)])
def test_nothing_to_compare_is_refused(name, shape):
    with pytest.raises(UsageError, match="expected at least one sample and two classes"):
        getattr(losses, name)(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("temperature", [1.0, 1000.0, 1e6])
@pytest.mark.parametrize("scale", [0.0, 1e5, 1e12, 1e30])
def test_dist_is_finite_where_probabilities_vanish(temperature, scale):
    draw = torch.Generator().manual_seed(0)
    student = (scale * torch.randn(8, 100, generator=draw)).requires_grad_()
    loss = losses.dist(student, scale * torch.randn(8, 100, generator=draw), temperature=temperature)
    loss.backward()
    assert 0 <= loss / temperature**2 <= 4, "two correlations, each in -1..1"
    assert student.grad.isfinite().all()
