"""Runs programs that nobody trusts, so that they reach nothing but what they were given. See docs/sandbox.md.

The files are in two camps. `box`, `launching`, `layers` and `limits` belong to the process that asks. The others run
inside, in a small process of its own that loads this folder and the standard library but neither the package nor torch:

    launcher   started once per response; prepares namespaces, then forks one process per program
    confine    what such a process does to itself before it runs anything: landlock, seccomp, limits
    programs   runs Python sources: as a program, or as functions that are called
    assertions what stands in a file of tests
    tester     runs the asserts of a data set, with the program's functions in another process
    values     plain values as JSON, the only thing that passes between them
"""
