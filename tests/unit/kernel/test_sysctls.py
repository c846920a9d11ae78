"""Settings that the kernel does not have, and values it does not take."""

from __future__ import annotations

import errno

from flannel_worker.kernel import sysctls
from flannel_worker.kernel.objects import Sysctl


def test_a_setting_the_kernel_does_not_have_needs_nothing() -> None:
    missing = Sysctl("net/ipv6/conf/flannel.none/accept_ra", "0")
    assert sysctls.standing(missing) == missing
    assert sysctls.write(missing) is None


def test_a_setting_is_read_without_its_line_end() -> None:
    assert sysctls.standing(Sysctl("kernel/ostype", "Plan 9")) == Sysctl("kernel/ostype", "Linux")


def test_a_value_that_is_not_taken_is_told_with_its_errno() -> None:
    refusal = sysctls.write(Sysctl("kernel/ostype", "Plan 9"))
    assert refusal is not None
    assert refusal.errno in (errno.EACCES, errno.EPERM)
