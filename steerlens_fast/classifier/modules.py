"""Finds the submodules, parameters and training flags of modules.

Nothing is cached, since a model may change. Methods such as ``Module.modules`` are not used, because they are slow:
they also make names, and a generator for each level of modules.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import CodeType, FunctionType

import torch
from torch import Tensor
from torch.nn import Module


def module_of(model) -> Module | None:
    """Return the model if it is a module, or the module if the model is a method of one; otherwise None."""
    owner = getattr(model, "__self__", model)
    return owner if isinstance(owner, Module) else None


def all_modules(roots: Iterable[Module]) -> list[Module]:
    """Return modules and all their submodules, each once.

    Examples
    --------
    >>> shared = torch.nn.ReLU()
    >>> len(all_modules([torch.nn.Sequential(shared, torch.nn.Flatten(), shared)]))
    3
    """
    found: dict[int, Module] = {}
    remaining = list(roots)
    while remaining:
        module = remaining.pop()
        if id(module) not in found:
            found[id(module)] = module
            for child in module._modules.values():
                if child is not None:
                    remaining.append(child)
    return list(found.values())


def parameters_of(modules: Iterable[Module]) -> list[Tensor]:
    """Return the parameters of modules, without those of submodules."""
    return [p for module in modules for p in module._parameters.values() if p is not None]


def in_training(modules: Iterable[Module]) -> bool:
    """Return whether one of the modules is in training mode, and its class reads the flag ``training``.

    The flag is True in every new module, also in one that ignores it, such as a linear layer or a wrapper.
    """
    types = {type(module) for module in modules if getattr(module, "training", False)}
    return any(map(_reads_training, types))


def _reads_training(module_type: type) -> bool:
    """Return whether a method or property of a module's class contains the name ``training``."""
    if issubclass(module_type, torch.jit.ScriptModule):  # its code is not Python's
        return True
    members = [member for base in module_type.__mro__ if base not in Module.__mro__ for member in vars(base).values()]
    return any(_contains_training(code) for member in members for code in _code_of(member))


def _code_of(member) -> list[CodeType]:
    """Return the code of a member of a class: of a method, also a decorated one, or of a property."""
    functions = [getattr(member, name, None) for name in ("fget", "fset", "__func__")]
    functions = [inspect.unwrap(f) for f in (member, *functions) if callable(f)]
    return [f.__code__ for f in functions if isinstance(f, FunctionType)]


def _contains_training(code: CodeType) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return "training" in code.co_names or any(map(_contains_training, inner))


def must_protect_buffers(modules: list[Module]) -> bool:
    """Return whether the buffers of ``modules``, a module and its submodules, must be protected from a forward pass.

    Modules in eval mode may write buffers, too. Yet buffers of a compiled module in eval mode are not protected: its
    CUDA graphs contain the buffers' addresses, and would be recorded again for copies.
    """
    compiled = [m for m in modules if "_orig_mod" in m._modules or getattr(m, "_compiled_call_impl", None)]
    return not compiled or in_training(modules)


def is_exported(model) -> bool:
    """Return whether a model is the module of an ExportedProgram.

    Its training flags have no meaning.
    """
    # ExportedProgram.module() gives it a method eval() that raises an error.
    return isinstance(model, torch.fx.GraphModule) and "eval" in vars(model)
