# SPDX-License-Identifier: MIT
"""What users touch: the language, arrays of other libraries, the stages of a call and the command line.

Owns no representation of programs of its own; that is `polyhedral.ir.program`.  From top to bottom, each of which may
use what stands below:

    commands                             the command line
    functions                            what is called: functions, and their derivatives
    interop   tuning   peers             functions in other libraries; other plans tried; the same in other libraries
    measuring                            who is faster, and whether results agree
    stages                               Module, Lowered, Executable
    inspection   running                 what a lowered program can be asked; native code, memory and calls
    lowering                             from a Program to text
    arrays   inference   library   autodiff
    lang   pictures   environment        what is typed; shapes as text; options, logs and the process
    recorded                             what the language writes and inference reads
"""
