"""Java classes without a Java compiler: one description, written as source and as bytecode.

A package for Android holds compiled classes. What a compiler makes of the same source depends on
its version, and most machines that build models have none; so a wrapper is described once
(:mod:`edgedeploy.release.java.model`) and written twice, as a class file that is a pure function of
the description (:mod:`~edgedeploy.release.java.classfile`) and as the source of the same class for
people and their editors (:mod:`~edgedeploy.release.java.source`).
"""
