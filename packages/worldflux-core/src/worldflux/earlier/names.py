"""Names of earlier versions, and where their things are today; or why there is nothing in their place."""

from __future__ import annotations

# name -> the module that has it, and its name there where that is another
MOVED = {
    "ACTION_COMPONENTS_KEY": "worldflux.earlier",
    "CEMPlanner": "worldflux.planners",
    "EarlyStoppingCallback": "worldflux.training:EarlyStopping",
    "JobStatus": "worldflux.delegated",
    "PLANNER_HORIZON_KEY": "worldflux.core.payloads",
    "PLANNER_SEQUENCE_KEY": "worldflux.core.payloads",
    "Planner": "worldflux.planners",
    "PlannerObjective": "worldflux.planners:Objective",
    "ProgressCallback": "worldflux.training",
    "RewardObjective": "worldflux.planners",
    "RolloutEngine": "worldflux.core.components:RolloutExecutor",
    "SequenceProvider": "worldflux.data:BatchProvider",
    "TokenProvider": "worldflux.data:BatchProvider",
    "TransitionProvider": "worldflux.data:BatchProvider",
    "VideoProvider": "worldflux.data:BatchProvider",
    "WorldModelOutput": "worldflux.core.output:ModelOutput",
    "first_action": "worldflux.planners",
    "is_namespaced_extra_key": "worldflux.core.spec:namespaced",
    "normalize_planned_action": "worldflux.core.payloads",
    "symexp": "worldflux.blocks",
    "symlog": "worldflux.blocks",
}
# name -> family, attribute of its entry in the registry, and the package and name of the class
FAMILIES = {
    "DreamerV3Config": ("dreamer", "config_class", "worldflux_dreamer.DreamerV3Config"),
    "DreamerV3WorldModel": ("dreamer", "model_class", "worldflux_dreamer.DreamerV3"),
    "TDMPC2Config": ("tdmpc2", "config_class", "worldflux_tdmpc.TDMPC2Config"),
    "TDMPC2WorldModel": ("tdmpc2", "model_class", "worldflux_tdmpc.TDMPC2"),
    "VJEPA2Config": ("vjepa2", "config_class", "worldflux_jepa.vjepa2.VJEPA2Config"),
    "VJEPA2WorldModel": ("vjepa2", "model_class", "worldflux_jepa.vjepa2.VJEPA2"),
}
# module -> those of today that have what was in it; an entry with a star is for all modules beneath
MODULES = {
    "worldflux.core.backend_bridge": "worldflux.delegated",
    "worldflux.core.backend_handle": "worldflux.delegated",
    "worldflux.core.exceptions": "worldflux.core.errors",
    "worldflux.core.latent_space": "worldflux.blocks.latent_space",
    "worldflux.core.interfaces": "worldflux.core.components worldflux.core.registry",
    "worldflux.core.model_registry": "worldflux.core.registry",
    "worldflux.core.protocol": "worldflux.core.model",
    "worldflux.models": "worldflux",
    "worldflux.models.dreamer": "worldflux_dreamer.dreamerv3",
    "worldflux.models.dreamer.*": "worldflux_dreamer.dreamerv3",
    "worldflux.models.tdmpc2": "worldflux_tdmpc.tdmpc2",
    "worldflux.models.tdmpc2.*": "worldflux_tdmpc.tdmpc2",
    "worldflux.planners.interfaces": "worldflux.planners",
    "worldflux.training.backend": "worldflux.delegated",
    "worldflux.training.data": "worldflux.data",
    "worldflux.utils": "worldflux.earlier",
    "worldflux_dreamer.actor": "worldflux_dreamer.dreamerv3.actor",
    "worldflux_dreamer.config": "worldflux_dreamer.dreamerv3.config",
    "worldflux_dreamer.decoder": "worldflux_dreamer.dreamerv3.codec",
    "worldflux_dreamer.distributions": "worldflux_dreamer.dreamerv3.distributions worldflux.blocks",
    "worldflux_dreamer.encoder": "worldflux_dreamer.dreamerv3.codec",
    "worldflux_dreamer.fast": "worldflux_dreamer.dreamerv3.fast.fast",
    "worldflux_dreamer.import_official": "worldflux_dreamer.dreamerv3.official "
    "worldflux_dreamer.dreamerv3.official_run",
    "worldflux_dreamer.losses": "worldflux_dreamer.dreamerv3.losses",
    "worldflux_dreamer.model": "worldflux_dreamer.dreamerv3.model",
    "worldflux_dreamer.networks": "worldflux_dreamer.dreamerv3.networks worldflux.blocks",
    "worldflux_dreamer.official_program": "worldflux_dreamer.dreamerv3.official_program",
    "worldflux_dreamer.official_settings": "worldflux_dreamer.dreamerv3.official_run",
    "worldflux_dreamer.optim": "worldflux_dreamer.dreamerv3.optim",
    "worldflux_dreamer.piecewise": "worldflux_dreamer.dreamerv3.fast.piecewise",
    "worldflux_dreamer.policy": "worldflux_dreamer.dreamerv3.policy",
    "worldflux_dreamer.rssm": "worldflux_dreamer.dreamerv3.rssm",
    "worldflux_dreamer.scan": "worldflux_dreamer.dreamerv3.fast.scan",
    "worldflux_tdmpc.config": "worldflux_tdmpc.tdmpc2.config",
    "worldflux_tdmpc.dynamics": "worldflux_tdmpc.tdmpc2.dynamics",
    "worldflux_tdmpc.encoder": "worldflux_tdmpc.tdmpc2.encoder",
    "worldflux_tdmpc.import_official": "worldflux_tdmpc.tdmpc2.official",
    "worldflux_tdmpc.losses": "worldflux_tdmpc.tdmpc2.losses",
    "worldflux_tdmpc.model": "worldflux_tdmpc.tdmpc2.model",
    "worldflux_tdmpc.networks": "worldflux_tdmpc.tdmpc2.networks worldflux.blocks",
    "worldflux_tdmpc.official_program": "worldflux_tdmpc.tdmpc2.official_program",
    "worldflux_tdmpc.official_settings": "worldflux_tdmpc.tdmpc2.official",
    "worldflux_tdmpc.policy": "worldflux_tdmpc.tdmpc2.policy",
    "worldflux_tdmpc.twohot": "worldflux_tdmpc.tdmpc2.twohot",
}
# modules that are still there -> what else was in them (the front door gives them a ``__getattr__`` for it)
NAMES = {
    "worldflux.core.batch": "BatchProvider BatchProviderV2 BatchRequest SequenceProvider TokenProvider "
    "TransitionProvider VideoProvider",
    "worldflux.core.config": "DreamerV3Config TDMPC2Config",
    "worldflux.core.output": "WorldModelOutput",
    "worldflux.core.payloads": "ACTION_COMPONENTS_KEY WorldModelOutput first_action is_namespaced_extra_key",
    "worldflux.core.registry": "AutoConfig AutoWorldModel",
    "worldflux.core.spec": "ModelMaturity",
    "worldflux.factory": "MODEL_ALIASES MODEL_CATALOG",
    "worldflux.planners": "PlannerObjective",
    "worldflux.training": "JobStatus ReplayBuffer",
    "worldflux.training.callbacks": "EarlyStoppingCallback ProgressCallback",
}


def _by_name(reasons: dict[str, str]) -> dict[str, str]:
    return {name: why for why, names in reasons.items() for name in names.split()}


# why there is nothing in the place of names that were at the top
GONE = _by_name(
    {
        "nothing called the asynchronous parts": (
            "AsyncDecoder AsyncDynamicsModel AsyncObservationEncoder AsyncRolloutExecutor"
        ),
        "it was a skeleton": (
            "DiTSkeletonConfig DiTSkeletonWorldModel GANSkeletonConfig GANSkeletonWorldModel "
            "PhysicsSkeletonConfig PhysicsSkeletonWorldModel Renderer3DSkeletonConfig "
            "Renderer3DSkeletonWorldModel SSMSkeletonConfig SSMSkeletonWorldModel"
        ),
        "no package has diffusion models yet": "DiffusionWorldModel DiffusionWorldModelConfig",
        "nothing read it: a family's class says what its dynamics are": "DynamicsType",
        "the family jepa is another model, with options of its own": "JEPABaseConfig JEPABaseWorldModel",
        "nothing read it: a family's class says what its latents are": "LatentType",
        "a plugin's manifest is its worldflux.toml": "PluginManifest",
        "a ModalitySpec of kind 'tokens' says what a model reads": "TokenSpec",
        "no package has token models yet": "TokenWorldModel TokenWorldModelConfig",
        "create_world_model takes everything at once": "WorldModelBuilder",
        "the handle of a backend starts official programs": "execution",
        "create_world_model(..., backend=...) gives the handle": "resolve_backend_execution",
    }
)
# and of names that were in rooms of their own
GONE_BELOW = _by_name(
    {
        "a replay belongs to one thread; its copies in workers draw batches of their own": "ThreadSafeReplayBuffer",
        "a source is sampled when its batch is needed": "PrefetchBatchProvider",
        "training takes arrays, datasets and iterables of batches as they are": (
            "TrajectoryDataset TokenSequenceProvider TransitionArrayProvider"
        ),
        "a Replay and a ReplayBuffer save themselves": "MemoryReplayBackend ParquetReplayBackend",
        "EnvironmentSource(replay_ratio=) says when updates are due": "LocalClock RatioUpdateScheduler",
        "a Trainer trains in one process": "DDPTrainer",
        "metrics.jsonl is always written": "LoggingCallback",
        "run_manifest.json and metrics.jsonl say how a run stands": "HeartbeatCallback TrainingReportCallback",
        "diagnosis.json is written where a loss is not finite": "DiagnosisCallback",
        "callbacks derive from worldflux.training.Callback": "CallbackAdapter",
        "no package has token models yet": "TokenSampler",
        "no package has diffusion models yet": "DiffusionSampler DiffusionScheduler",
        "evaluate_policy and imagine measure a model": "run_eval_suite collect_env_policy_rollout",
        "'worldflux plugins check' holds a family to the conformance kit": "quick_verify quality_check",
        "each family's parity tests hold it to the official numbers": "ParityVerifier",
    }
)
