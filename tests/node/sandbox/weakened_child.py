"""The same child on a kernel that has neither landlock nor namespaces nor, once this is done, another filter."""

import os
import runpy
import struct

from node.sandbox import kernel
from node.sandbox.enclosing import install_filter
from node.sandbox.filter import ALLOW, JUMP_EQUAL, LOAD, NUMBER, RETURN, UNKNOWN
from node.sandbox.landlock import CREATE_RULESET
from node.sandbox.syscalls import ARCHITECTURES, FORBIDDEN

column = ARCHITECTURES[os.uname().machine].column
absent = [CREATE_RULESET, FORBIDDEN["unshare"][column], FORBIDDEN["seccomp"][column]]
steps = [(LOAD, 0, 0, NUMBER)]
for number in absent:
    assert number is not None
    steps += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, UNKNOWN)]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
install_filter(b"".join(struct.pack("=HBBI", *step) for step in (*steps, (RETURN, 0, 0, ALLOW))))
runpy.run_module("escaping_child", run_name="__main__")
