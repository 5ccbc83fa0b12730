"""Generated from the .proto files by `make proto`: not to be edited."""

import betterproto2

default_message_pool = betterproto2.MessagePool()
