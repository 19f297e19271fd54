"""Stand-ins and helpers of the tests: what they start, fake, write and ask."""
