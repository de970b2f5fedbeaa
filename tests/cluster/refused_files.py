"""Cluster files that are refused, with what the error must say: key path, value, reason, fix."""

from __future__ import annotations

_SSH = "name: a\nlauncher: ssh\ntasks: {chief: {}}\n"

REFUSED = {
    "empty": ("", ["is empty", "'name' and 'tasks'"]),
    "only comments": ("# nothing\n", ["is empty"]),
    "a list": ("- name: a\n", ["holds a list"]),
    "a word": ("hello\n", ["holds a single value"]),
    "not YAML": ("name: a\ntasks: {chief: {replicas: 1}\n", ["line 3", "not YAML"]),
    "tabs": ("name: a\ntasks:\n\tchief: {}\n", ["line 3", "not YAML", "indent with spaces"]),
    "two documents": ("name: a\n---\nname: b\n", ["not YAML", "single document"]),
    "an impossible date": ("name: a\nparams: {day: 2024-99-99}\n", ["not YAML", "quotes"]),
    "a Python object": ("name: !!python/object/apply:os.getcwd []\n", ["line 1", "not YAML"]),
    "a tag that does not fit": ("name: a\ntasks: !!bool perhaps\n", ["not YAML", "tag"]),
    "an empty number": ("name: a\ntasks: !!int ''\n", ["not YAML", "tag"]),
    "a value within itself": ("name: a\nparams: &p {inner: *p}\n", ["contains itself"]),
    "too deep": ("name: " + "[" * 5000 + "\n", ["nested too deeply"]),
    "key twice": (
        "name: a\ntasks:\n  chief: {}\n  worker: {}\n  chief: {}\n",
        ["line 3", "tasks.chief", "twice", "lines 3 and 5"],
    ),
    "key twice in one line": (
        "name: a\ntasks: {chief: {replicas: 1, replicas: 2}}\n",
        ["tasks.chief.replicas", "twice", "in line 2."],
    ),
    "key that is no text": (
        "name: a\ntasks: {chief: {}}\nparams: {on: 1}\n",
        ["params", "the key on", "quotes"],
    ),
    "no name": ("tasks: {chief: {}}\n", ["name: missing", "name: digits-local"]),
    "no tasks": ("name: a\n", ["tasks: missing", "chief: {replicas: 1}"]),
    "name with a slash": ("name: ../a\ntasks: {chief: {}}\n", ["line 1: name", "'../a'", "letters"]),
    "name that is a number": ("name: 7\ntasks: {chief: {}}\n", ["name: 7", "quotes"]),
    "name with a newline": ('name: "a\\n"\ntasks: {chief: {}}\n', ["name", "letters"]),
    "unknown key": (
        "name: a\ntasks: {chief: {}}\nstratgy: none\n",
        ["line 3: stratgy", "Did you mean 'strategy'?"],
    ),
    "key at the wrong place": (
        "name: a\ntasks: {chief: {}}\nmax_restarts: 2\n",
        ["max_restarts", "belongs under 'run_policy'"],
    ),
    "key of the top below": (
        "name: a\ntasks: {chief: {}}\nrun_policy: {params: {}}\n",
        ["run_policy.params", "belongs at the top"],
    ),
    "unknown task type": ("name: a\ntasks: {wrker: {}}\n", ["tasks.wrker", "Did you mean 'worker'?"]),
    "master": ("name: a\ntasks: {master: {}}\n", ["tasks.master", "Did you mean 'chief'?"]),
    "task without a value": ("name: a\ntasks:\n  chief:\n", ["line 2: tasks", "'chief'", "replicas: 1"]),
    "tasks as a list": ("name: a\ntasks: [chief]\n", ["line 2: tasks", "mapping"]),
    "replicas as text": (
        "name: a\ntasks: {worker: {replicas: two}}\n",
        ["tasks.worker.replicas", "'two' is not a whole number"],
    ),
    "replicas with a fraction": (
        "name: a\ntasks: {worker: {replicas: 1.5}}\n",
        ["replicas: 1.5", "whole number"],
    ),
    "replicas as a truth value": (
        "name: a\ntasks: {worker: {replicas: yes}}\n",
        ["replicas: true", "whole number"],
    ),
    "negative replicas": ("name: a\ntasks: {worker: {replicas: -1}}\n", ["replicas: -1 is less than 0"]),
    "unknown resource": ("name: a\ntasks: {chief: {resources: {cpu: 1}}}\n", ["resources.cpu", "'cpus'"]),
    "memory without a unit": (
        "name: a\ntasks: {chief: {resources: {memory: 2}}}\n",
        ["tasks.chief.resources.memory: 2", "unit", "2GiB"],
    ),
    "memory with a wrong unit": (
        "name: a\ntasks: {chief: {resources: {memory: 2gib}}}\n",
        ["resources.memory: '2gib'", "Did you mean 2GiB?"],
    ),
    "no cpus": ("name: a\ntasks: {chief: {resources: {cpus: 0}}}\n", ["resources.cpus: 0 is not above 0"]),
    "endless cpus": ("name: a\ntasks: {chief: {resources: {cpus: .inf}}}\n", ["cpus", "finite"]),
    "env with a truth value": (
        "name: a\ntasks: {chief: {}}\nenv: {DEBUG: true}\n",
        ["env: sets DEBUG", "quotes"],
    ),
    "env with a bad name": ("name: a\ntasks: {chief: {}}\nenv: {MY-VAR: x}\n", ["env", "'MY-VAR'"]),
    "env with TF_CONFIG": (
        "name: a\ntasks: {chief: {env: {TF_CONFIG: '{}'}}}\n",
        ["tasks.chief.env", "TF_CONFIG", "the launcher writes it"],
    ),
    "env of ours": (
        "name: a\ntasks: {chief: {}}\nenv: {ORCHESTRATOR_TASK: x}\n",
        ["ORCHESTRATOR_TASK", "Remove"],
    ),
    "hosts as text": (
        "name: a\ntasks: {chief: {hosts: localhost}}\n",
        ["hosts: 'localhost' is not a list", "[a, b]"],
    ),
    "host of another machine": (
        "name: a\ntasks: {chief: {hosts: [gpu7]}}\n",
        ["tasks.chief.hosts[0]: 'gpu7'", "launcher: local", "localhost"],
    ),
    "host that looks like an option": (
        "name: a\ntasks: {chief: {hosts: ['-oProxyCommand=x']}}\n",
        ["tasks.chief.hosts[0]", "HOST:PORT"],
    ),
    "port too large": ("name: a\ntasks: {chief: {hosts: ['localhost:70000']}}\n", ["hosts[0]", "65535"]),
    "fewer hosts than tasks": (
        "name: a\ntasks: {chief: {}, worker: {replicas: 2, hosts: ['localhost:1']}}\nstrategy:"
        " multi_worker_mirrored\n",
        ["tasks.worker.hosts", "1 entries for 2 replicas"],
    ),
    "address twice": (
        "name: a\ntasks: {chief: {hosts: ['localhost:2222']}, worker: {hosts: ['127.0.0.1:2222']}}\n"
        "strategy: multi_worker_mirrored\n",
        ["tasks.worker.hosts[0]", "'127.0.0.1:2222'", "chief-0", "its own port"],
    ),
    "address twice after promotion": (
        "name: a\npromote_worker_to_chief: true\nstrategy: multi_worker_mirrored\n"
        "tasks: {worker: {replicas: 2, hosts: ['localhost:2222', 'localhost:2222']}}\n",
        ["tasks.worker.hosts[1]", "chief-0"],
    ),
    "no task": ("name: a\ntasks: {}\n", ["tasks: no task at all", "chief: {replicas: 1}"]),
    "zero tasks": ("name: a\ntasks: {chief: {replicas: 0}}\n", ["tasks: no task at all"]),
    "two chiefs": (
        "name: a\ntasks: {chief: {replicas: 2}}\n",
        ["tasks.chief.replicas: 2", "one chief", "Write 1"],
    ),
    "two evaluators": (
        "name: a\ntasks: {chief: {}, evaluator: {replicas: 2}}\n",
        ["tasks.evaluator.replicas: 2", "one evaluator"],
    ),
    "ps alone": (
        "name: a\ntasks: {ps: {}}\nstrategy: parameter_server\n",
        ["tasks: ps but neither", "nobody trains"],
    ),
    "evaluator alone": ("name: a\ntasks: {evaluator: {}}\n", ["evaluator but neither chief nor worker"]),
    "workers without a chief": (
        "name: a\ntasks: {worker: {replicas: 2}}\nstrategy: multi_worker_mirrored\n",
        ["line 2: tasks: workers but no chief", "promote_worker_to_chief: true"],
    ),
    "promotion beside a chief": (
        "name: a\ntasks: {chief: {}, worker: {}}\npromote_worker_to_chief: true\nstrategy:"
        " multi_worker_mirrored\n",
        ["line 3: promote_worker_to_chief: true", "'tasks.chief'"],
    ),
    "promotion of nobody": (
        "name: a\ntasks: {ps: {}}\npromote_worker_to_chief: true\n",
        ["promote_worker_to_chief", "no worker"],
    ),
    "unknown strategy": (
        "name: a\ntasks: {chief: {}}\nstrategy: mirored\n",
        ["'mirored'", "Did you mean 'mirrored'?"],
    ),
    "strategy without a name": (
        "name: a\ntasks: {chief: {}}\nstrategy: {logical_devices: 2}\n",
        ["strategy.name: missing"],
    ),
    "no strategy for two": (
        "name: a\ntasks: {chief: {}, worker: {}}\n",
        ["strategy: not given", "multi_worker_mirrored"],
    ),
    "no strategy for ps": (
        "name: a\ntasks: {chief: {}, ps: {}}\n",
        ["strategy: not given", "parameter_server"],
    ),
    **{
        f"{name} with ps": (
            f"name: a\ntasks: {{chief: {{}}, ps: {{}}}}\nstrategy: {name}\n",
            [f"line 3: strategy: {name}", "ps", "parameter_server"],
        )
        for name in ("none", "one_device", "mirrored", "central_storage", "multi_worker_mirrored")
    },
    **{
        f"{name} with a worker": (
            f"name: a\ntasks: {{chief: {{}}, worker: {{}}}}\nstrategy: {name}\n",
            [f"strategy: {name}", "2 tasks train", "multi_worker_mirrored"],
        )
        for name in ("none", "one_device", "mirrored", "central_storage")
    },
    "parameter_server without ps": (
        "name: a\ntasks: {chief: {}, worker: {}}\nstrategy: parameter_server\n",
        ["strategy: parameter_server", "ps: {replicas: 1}"],
    ),
    "logical devices of one_device": (
        "name: a\ntasks: {chief: {}}\nstrategy: {name: one_device, logical_devices: 2}\n",
        ["strategy.logical_devices: 2", "one_device"],
    ),
    "no logical devices": (
        "name: a\ntasks: {chief: {}}\nstrategy: {name: mirrored, logical_devices: 0}\n",
        ["strategy.logical_devices: 0", "1 or more"],
    ),
    "style of mirrored": (
        "name: a\ntasks: {chief: {}}\nstrategy: {name: mirrored, style: coordinator}\n",
        ["strategy.style: coordinator", "parameter_server alone"],
    ),
    "coordinator experiment": (
        "name: a\ntasks: {chief: {}, worker: {}, ps: {}}\n"
        "strategy: {name: parameter_server, style: coordinator}\n",
        ["strategy.style: coordinator", "for commands"],
    ),
    "one task of a synchronous job restarted": (
        "name: a\ntasks: {chief: {}, worker: {}}\nstrategy: multi_worker_mirrored\n"
        "run_policy: {restart: {worker: task}}\n",
        ["line 4: run_policy.restart.worker", "collectives", "'attempt'"],
    ),
    "unknown restart": (
        "name: a\ntasks: {chief: {}}\nrun_policy: {restart: {chief: always}}\n",
        ["run_policy.restart.chief: 'always'", "task, attempt, never"],
    ),
    "negative restarts": (
        "name: a\ntasks: {chief: {}}\nrun_policy: {max_restarts: -1}\n",
        ["max_restarts: -1"],
    ),
    "duration with a unit": (
        "name: a\ntasks: {chief: {}}\nrun_policy: {grace_seconds: 30s}\n",
        ["run_policy.grace_seconds: '30s'", "without a unit"],
    ),
    "no total time": (
        "name: a\ntasks: {chief: {}}\nrun_policy: {total_timeout_seconds: 0}\n",
        ["total_timeout_seconds: 0", "above 0"],
    ),
    "experiment without a function": (
        "name: a\ntasks: {chief: {}}\nexperiment: my_module\n",
        ["experiment: 'my_module'", "MODULE:FUNCTION"],
    ),
    "params as a list": ("name: a\ntasks: {chief: {}}\nparams: [1]\n", ["params: [1]", "mapping"]),
    "param that is a date": (
        "name: a\ntasks: {chief: {}}\nparams: {day: 2024-01-01}\n",
        ["params", "'day'", "date", "quotes"],
    ),
    "param that is no name": (
        "name: a\ntasks: {chief: {}}\nparams: {max-steps: 3}\n",
        ["params", "'max-steps'"],
    ),
    "params with a numeric key": (
        "name: a\ntasks: {chief: {}}\nparams: {units: {1: 2}}\n",
        ["params.units", "the key 1", "quotes"],
    ),
    "unknown RunConfig argument": (
        "name: a\ntasks: {chief: {}}\nrun_config: {save_checkpoint_steps: 3}\n",
        ["run_config.save_checkpoint_steps", "'save_checkpoints_steps'"],
    ),
    "strategy object": (
        "name: a\ntasks: {chief: {}}\nrun_config: {train_distribute: mirrored}\n",
        ["run_config.train_distribute", "'strategy' decides it"],
    ),
    "session_config": (
        "name: a\ntasks: {chief: {}}\nrun_config: {session_config: {}}\n",
        ["run_config.session_config"],
    ),
    "protocol": (
        "name: a\ntasks: {chief: {}}\nrun_config: {protocol: grpc}\n",
        ["run_config.protocol", "Remove"],
    ),
    "both periods": (
        "name: a\ntasks: {chief: {}}\nrun_config: {save_checkpoints_steps: 1, save_checkpoints_secs: 1}\n",
        ["line 3: run_config", "save_checkpoints_steps and save_checkpoints_secs"],
    ),
    "steps_per_loop": (
        "name: a\ntasks: {chief: {}}\nrun_config: {steps_per_loop: 0}\n",
        ["steps_per_loop: 0", "'auto'"],
    ),
    "mixed_precision": (
        "name: a\ntasks: {chief: {}}\nrun_config: {mixed_precision: float8}\n",
        ["mixed_precision: 'float8'", "bfloat16"],
    ),
    "flag in quotes": (
        "name: a\ntasks: {chief: {}}\nrun_config: {xla: 'true'}\n",
        ["run_config.xla", "true or false"],
    ),
    "start method": (
        "name: a\ntasks: {chief: {}}\nlocal: {start_method: frok}\n",
        ["local.start_method: 'frok'", "Did you mean 'fork'?"],
    ),
    "ssh host that is an option": (
        _SSH + "ssh: {hosts: [h1, -oProxyCommand=x]}\n",
        ["line 4: ssh.hosts[1].name", "'-oProxyCommand=x'", "taken for an option"],
    ),
    "ssh host of two words": (_SSH + "ssh: {hosts: ['h 1']}\n", ["ssh.hosts[0].name: 'h 1'", "USER@HOST"]),
    "ssh host with a port": (_SSH + "ssh: {hosts: ['h1:22']}\n", ["'h1:22'", "~/.ssh/config"]),
    "ssh host twice": (_SSH + "ssh: {hosts: [h1, h1]}\n", ["ssh.hosts", "'h1' twice"]),
    "ssh host without a name": (_SSH + "ssh: {hosts: [{cpus: 2}]}\n", ["ssh.hosts[0].name: missing"]),
    "unknown key of an ssh host": (
        _SSH + "ssh: {hosts: [{name: h1, gpuss: 1}]}\n",
        ["ssh.hosts[0].gpuss", "Did you mean 'gpus'?"],
    ),
    "unknown key of ssh": (_SSH + "ssh: {hosts: [h1], pyton: x}\n", ["ssh.pyton", "'python'"]),
    "ssh key at the top": (_SSH + "lease_seconds: 5\n", ["lease_seconds", "belongs under 'ssh'"]),
    "no ssh host": (_SSH, ["ssh.hosts", "chief tasks name none", "hosts: [h1, h2]"]),
    "ssh host that is not listed": (
        "name: a\nlauncher: ssh\ntasks: {chief: {hosts: [hots1]}}\nssh: {hosts: [host1, h2]}\n",
        ["line 3: tasks.chief.hosts[0]", "'hots1' is not among 'ssh.hosts'", "Did you mean 'host1'?"],
    ),
    "address of no host": (
        _SSH + "ssh: {hosts: [h1], addresses: {h2: 10.0.0.1}}\n",
        ["ssh.addresses.h2", "no task"],
    ),
    "address with a port": (
        _SSH + "ssh: {hosts: [h1], addresses: {h1: '10.0.0.1:22'}}\n",
        ["ssh.addresses", "'10.0.0.1:22'", "without a port"],
    ),
    "ssh interpreter that is an option": (_SSH + "ssh: {hosts: [h1], python: '-c'}\n", ["ssh.python: '-c'"]),
    "relative ssh root": (_SSH + "ssh: {hosts: [h1], root: here}\n", ["ssh.root: 'here'", "absolute"]),
    "short lease": (_SSH + "ssh: {hosts: [h1], lease_seconds: 1}\n", ["ssh.lease_seconds: 1", "5 or more"]),
}
