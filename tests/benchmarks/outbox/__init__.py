"""What durable receivers cost: writing, claiming, running and waiting for them."""
