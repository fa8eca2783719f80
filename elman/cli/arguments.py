"""How the parameters of commands are given on the command line."""

from typing import Annotated

from cyclopts import Parameter

#: An option that takes several values.
Several = Parameter(consume_multiple=True, negative="")
#: The options of a class, each under its own name.
Flat = Parameter(name="*", negative_iterable="", negative_none="")
#: A flag that has no --no-... beside it.
Flag = Annotated[bool, Parameter(negative="")]
