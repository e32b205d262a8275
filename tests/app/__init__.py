"""The whole product, through the doors its users take."""
