"""The App that the files in this folder deploy: a price, then an offer by mail."""

from __future__ import annotations

from paigeant import ActivityContext, App, RetryPolicy

app = App("shop")


@app.activity
async def price(item: str) -> int:
    """Return the price in cents."""
    return 100 * len(item)


@app.activity(queue="mail", retry=RetryPolicy(attempts=5), timeout=20)
async def send_offer(cents: int, ctx: ActivityContext) -> str:
    """Send the offer. The log line stands for the call of a mail service."""
    ctx.logger.info("sent the offer", idempotency_key=ctx.idempotency_key)
    return f"It costs {cents / 100:.2f}"
