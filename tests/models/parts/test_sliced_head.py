"""The sliced Wasserstein head: its manifold, its slope, its blocks and classes."""

import pytest
import torch
from torch import Tensor

from vidgan.models.parts.sliced_head import SlicedWassersteinHead, class_conditional_scores

DIM = 16


def make(num_blocks: int = 1, num_classes: int = 0, seed: int = 0) -> SlicedWassersteinHead:
    torch.manual_seed(seed)
    head = SlicedWassersteinHead(DIM, num_blocks, num_classes).double()
    # The float32 initialisation is orthonormal to float32 only.
    head.retract()
    return head


def orthonormality(head: SlicedWassersteinHead) -> float:
    v = head.projections.detach()
    return float((v.transpose(1, 2) @ v - torch.eye(v.shape[-1], dtype=v.dtype)).abs().max())


def disturb(head: SlicedWassersteinHead) -> None:
    """Give the dual functions slopes and offsets away from their initial 1 and 0."""
    with torch.no_grad():
        head.slopes.add_(0.5 * torch.randn_like(head.slopes))
        head.offsets.add_(torch.randn_like(head.offsets))


def test_realness_of_a_hand_worked_head() -> None:
    head = SlicedWassersteinHead(2)
    with torch.no_grad():
        head.projections.copy_(torch.tensor([[[0.6, -0.8], [0.8, 0.6]]]))  # columns are theta_i
        head.slopes.copy_(torch.tensor([[2.0, 1.0]]))
        head.offsets.copy_(torch.tensor([[1.0, -3.0]]))
    # theta_1 . y = 5 and theta_2 . y = 0 for y = (3, 4): u = (11, -3).
    out = head(torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(out, torch.tensor([[11.0, -0.6]]))
    torch.testing.assert_close(head.slope(torch.tensor([[3.0, 4.0]])), torch.tensor([[2.0, 0.2]]))


def test_projections_start_orthonormal() -> None:
    torch.manual_seed(0)
    assert orthonormality(SlicedWassersteinHead(128)) < 1e-5
    assert orthonormality(make(num_blocks=3)) < 1e-13


@pytest.mark.parametrize(("num_blocks", "num_classes"), [(1, 0), (3, 0), (1, 4), (2, 4)])
def test_analytic_slope_equals_autograd(num_blocks: int, num_classes: int) -> None:
    head = make(num_blocks, num_classes)
    disturb(head)
    labels = torch.tensor([0, 3, 1, 1, 2]) if num_classes else None
    encoding = torch.randn(5, DIM, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(head(encoding, labels).mean(dim=1).sum(), encoding)
    slope = head.slope(encoding, labels)
    # One block is orthonormal, so the slopes alone give the norm; several blocks overlap.
    rotated = (
        torch.einsum("mdk,bmk->bd", head.projections, slope.unflatten(1, (num_blocks, DIM)))
        / slope.shape[1]
    )
    assert float((rotated - gradient).detach().abs().max()) < 5e-11
    if num_blocks == 1:
        norm = slope.square().sum(dim=1).sqrt() / DIM
        assert float((norm - gradient.norm(dim=1)).detach().abs().max()) < 5e-11


def test_analytic_slope_equals_autograd_in_float32() -> None:
    torch.manual_seed(0)
    head = SlicedWassersteinHead(128)
    disturb(head)
    encoding = torch.randn(8, 128, requires_grad=True)
    (gradient,) = torch.autograd.grad(head(encoding).mean(dim=1).sum(), encoding)
    norm = head.slope(encoding).square().sum(dim=1).sqrt() / 128
    assert float((norm - gradient.norm(dim=1)).detach().abs().max()) < 1e-6


def test_slope_at_the_start_is_the_known_value() -> None:
    # All slopes are 1 or 0.2 (half each): sqrt((1 + 0.04) / 2 / K) = sqrt(0.52 / 128) = 0.0637.
    torch.manual_seed(0)
    head = SlicedWassersteinHead(128)
    norm = head.slope(torch.randn(500, 128)).detach().square().sum(dim=1).sqrt() / 128
    assert float(norm.mean()) == pytest.approx((0.52 / 128) ** 0.5, rel=0.02)


def random_gradient(head: SlicedWassersteinHead) -> Tensor:
    return torch.randn_like(head.projections)


def test_projected_gradient_is_tangent_and_keeps_the_tangent_part() -> None:
    head = make(num_blocks=2)
    gradient = random_gradient(head)
    head.projections.grad = gradient.clone()
    head.project_gradient()
    v, tangent = head.projections.detach(), head.projections.grad
    product = v.transpose(1, 2) @ tangent
    # Tangent to the manifold: V^T g is antisymmetric.
    torch.testing.assert_close(product, -product.transpose(1, 2))
    # What was taken away is normal to it: V times a symmetric matrix.
    normal = v.transpose(1, 2) @ (gradient - tangent)
    torch.testing.assert_close(normal, normal.transpose(1, 2))
    once = tangent.clone()
    head.project_gradient()
    torch.testing.assert_close(head.projections.grad, once)


def test_gradient_of_other_parameters_is_left_alone() -> None:
    head = make()
    head.project_gradient()
    assert head.projections.grad is None


def test_retraction_restores_orthonormality_and_moves_little() -> None:
    head = make(num_blocks=2)
    before = head.projections.detach().clone()
    with torch.no_grad():
        head.projections.add_(1e-3 * torch.randn_like(before))
    assert orthonormality(head) > 1e-4
    moved = head.projections.detach().clone()
    head.retract()
    assert orthonormality(head) < 1e-13
    assert float((head.projections.detach() - moved).abs().max()) < 1e-2


def test_retraction_keeps_an_orthonormal_matrix_whatever_its_signs() -> None:
    head = make()
    signs = torch.where(torch.arange(DIM) % 3 == 0, -1.0, 1.0).double()
    with torch.no_grad():
        head.projections.mul_(signs)
    before = head.projections.detach().clone()
    head.retract()
    torch.testing.assert_close(head.projections.detach(), before, atol=1e-13, rtol=0)


@pytest.mark.parametrize("keeps_signs", [True, False])
def test_columns_turn_round_in_300_optimizer_steps_only_if_they_may(keeps_signs: bool) -> None:
    torch.manual_seed(0)
    head = SlicedWassersteinHead(64, keeps_signs=keeps_signs)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, betas=(0.0, 0.99))
    flips = 0
    for _ in range(300):
        before = head.projections.detach().clone()
        head.projections.grad = torch.randn_like(before)
        head.project_gradient()
        optimizer.step()
        head.retract()
        cosines = (before * head.projections.detach()).sum(dim=1)
        flips += int((cosines < 0).sum())
    assert (flips == 0) == keeps_signs
    assert orthonormality(head) < 1e-5


def test_blocks_see_the_same_encoding_side_by_side() -> None:
    head = make(num_blocks=3)
    disturb(head)
    encoding = torch.randn(4, DIM, dtype=torch.float64)
    out = head(encoding)
    assert out.shape == (4, 3 * DIM)
    for block in range(3):
        part = SlicedWassersteinHead(DIM).double()
        columns = slice(block * DIM, (block + 1) * DIM)
        with torch.no_grad():
            part.projections.copy_(head.projections[block : block + 1])
            part.slopes.copy_(head.slopes[:, columns])
            part.offsets.copy_(head.offsets[:, columns])
        torch.testing.assert_close(out[:, columns], part(encoding))


def test_classes_have_dual_functions_of_their_own_on_shared_projections() -> None:
    head = make(num_classes=3)
    assert head.slopes.shape == (3, DIM)
    disturb(head)
    encoding = torch.randn(1, DIM, dtype=torch.float64).expand(3, DIM)
    out = head(encoding, torch.tensor([0, 1, 2]))
    for label in range(3):
        alone = SlicedWassersteinHead(DIM).double()
        with torch.no_grad():
            alone.projections.copy_(head.projections)
            alone.slopes.copy_(head.slopes[label : label + 1])
            alone.offsets.copy_(head.offsets[label : label + 1])
        torch.testing.assert_close(out[label], alone(encoding[:1])[0])


def test_projection_adds_the_inner_product_with_the_vector_of_the_label() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    vectors = torch.tensor([[1.0, 0.0], [10.0, 1.0]])

    def head(y: Tensor) -> Tensor:
        return y.sum(dim=1, keepdim=True)

    scores = class_conditional_scores(features, torch.tensor([1, 0, 1]), head, vectors)
    assert scores.realness.tolist() == [[15.0], [10.0], [67.0]]
    assert class_conditional_scores(features, None, head, vectors).realness.tolist() == [
        [3.0],
        [7.0],
        [11.0],
    ]
