"""The few web pages a person needs. So far one: where somebody who was invited chooses a password."""
