"""Have pytest explain the assertions of the suite, which is a library to it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("paigeant.testing.conformance")
