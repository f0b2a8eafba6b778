"""Every change to moto's behaviour, in one place. Each has a test that fails once moto no longer needs it."""
