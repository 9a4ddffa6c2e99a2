"""seccomp: system calls that no computation needs are refused."""

from __future__ import annotations

import ctypes.util
import errno
import importlib
import os
import socket
import termios
from types import ModuleType

from worker.sandbox.plan import Plan
from worker.sandbox.wall import Wall, add_wall

_CLONE_THREAD = 0x00010000
_TIOCLINUX = 0x541C
_IOPRIO_WHO_PROCESS = 1
_DENIED = (
    # network
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4",
    # programs and processes
    "execve", "execveat", "fork", "vfork", "setsid", "setpgid", "unshare", "setns", "chroot", "pivot_root",
    # other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_open",
    "pidfd_getfd", "pidfd_send_signal", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "move_pages", "migrate_pages",
    # whose file it is, and who may do what with it
    "chown", "fchown", "lchown", "fchownat", "chmod", "fchmod", "fchmodat", "fchmodat2", "setxattr", "fsetxattr",
    "lsetxattr", "removexattr", "fremovexattr", "lremovexattr", "mknod", "mknodat",
    # what a file holds, and when that was written: by path, which may be anybody's
    "truncate", "truncate64", "utime", "utimes", "futimesat", "utimensat", "utimensat_time64",
    # memory and messages that belong to no process, and outlive it
    "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semtimedop", "semctl", "msgget", "msgsnd", "msgrcv",
    "msgctl", "mq_open", "mq_unlink", "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr", "ipc",
    # users
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
    # the machine
    "mount", "umount2", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
    "open_by_handle_at", "name_to_handle_at", "swapon", "swapoff", "reboot", "kexec_load", "kexec_file_load",
    "init_module", "finit_module", "delete_module", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime",
    "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "syslog", "vhangup", "iopl", "ioperm", "modify_ldt",
    # wide doors into the kernel
    "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd", "fanotify_init",
    "keyctl", "add_key", "request_key", "lookup_dcookie", "nfsservctl", "memfd_secret", "personality",
)  # fmt: skip


@add_wall
class SeccompWall(Wall):
    """A filter on every thread, those that libraries have started included. Refused calls answer EPERM."""

    name = "seccomp"
    order = 50
    stops = "sockets, programs, forks, other processes, memory outside the limit, rare doors of the kernel"
    remedy = "install Debian's libseccomp2; make install"

    def why_not(self) -> str | None:
        """Whether libseccomp can be loaded."""
        if problem := super().why_not():
            return problem
        try:
            _pyseccomp()
        except ImportError:
            return "the Python package pyseccomp is not installed"
        except OSError:
            return "libseccomp is not installed"
        return None

    def at_start(self, plan: Plan) -> None:
        """Load the library."""
        del plan
        _pyseccomp()

    def after_imports(self, plan: Plan) -> None:
        """Load the filter."""
        scmp = _pyseccomp()
        refused, absent = scmp.ERRNO(errno.EPERM), scmp.ERRNO(errno.ENOSYS)
        rules = scmp.SyscallFilter(scmp.ALLOW)
        rules.set_attr(scmp.Attr.CTL_TSYNC, 1)
        for name in _DENIED:
            _add(rules, refused, name)
        # Its flags lie in memory, where a filter cannot look; told that it is absent, the C library takes clone.
        _add(rules, absent, "clone3")
        _add(rules, refused, "clone", scmp.Arg(0, scmp.MASKED_EQ, _CLONE_THREAD, 0))
        own = os.getpid()
        for name in ("kill", "tgkill"):  # raise() and abort() send to the process itself
            _add(rules, refused, name, scmp.Arg(0, scmp.NE, own))
        _add(rules, refused, "prlimit64", scmp.Arg(0, scmp.NE, 0))
        _forbid_for_others(rules, refused)
        _forbid_truncation(rules, refused, absent)
        if not plan.devices:  # drivers share memory with their cards this way
            _add(rules, refused, "memfd_create")  # neither limit nor watch would see what is written there
        for command in (termios.TIOCSTI, _TIOCLINUX):  # typing into the terminal that the log goes to
            _add(rules, refused, "ioctl", scmp.Arg(1, scmp.MASKED_EQ, 0xFFFFFFFF, command))
        rules.load()

    def gap(self, plan: Plan) -> str | None:
        """A socket, a file truncated by its path, a fork."""
        try:
            socket.socket().close()
        except PermissionError:
            pass
        else:
            return "sockets can be opened"
        try:
            os.truncate(plan.work / "trial", 0)
        except PermissionError:
            pass
        else:
            return "files can be truncated"
        try:
            if os.fork() == 0:
                os._exit(0)
        except PermissionError:
            return None
        return "it can fork"


def _pyseccomp() -> ModuleType:
    """The package. It looks for its library by running ``ldconfig``, which no wall lets in: it is told the name."""
    find = ctypes.util.find_library
    ctypes.util.find_library = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}.get  # type: ignore[assignment]
    try:
        return importlib.import_module("pyseccomp")
    finally:
        ctypes.util.find_library = find


def _forbid_for_others(rules: object, refused: int) -> None:
    """Rules for calls that a process may make about itself alone."""
    scmp = _pyseccomp()
    for name in ("setpriority", "ioprio_set"):
        _add(rules, refused, name, scmp.Arg(1, scmp.NE, 0))
    _add(rules, refused, "setpriority", scmp.Arg(0, scmp.NE, 0))
    _add(rules, refused, "ioprio_set", scmp.Arg(0, scmp.NE, _IOPRIO_WHO_PROCESS))
    for name in ("sched_setscheduler", "sched_setparam", "sched_setattr"):
        _add(rules, refused, name, scmp.Arg(0, scmp.NE, 0))


def _forbid_truncation(rules: object, refused: int, absent: int) -> None:
    """Rules for ways to open a file for reading that truncate it: without Landlock nothing else forbids them."""
    scmp = _pyseccomp()
    for name, place in (("open", 1), ("openat", 2)):
        _add(rules, refused, name, scmp.Arg(place, scmp.MASKED_EQ, os.O_ACCMODE | os.O_TRUNC, os.O_TRUNC))
    _add(rules, absent, "openat2")  # its flags lie in memory


def _add(rules: object, action: int, name: str, *arguments: object) -> None:
    try:
        rules.add_rule(action, name, *arguments)  # type: ignore[attr-defined]
    except (OSError, ValueError):  # a name that this libseccomp or this processor does not know
        if name in {"clone", "kill", "execve", "socket", "ptrace"}:
            raise
