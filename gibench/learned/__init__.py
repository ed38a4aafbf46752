"""Networks that are trained on auxiliary data, by a defense or by an attacker, and the one loop that trains them."""
