"""Callbacks: what happens around a step. Each says after which Lightning hook it acts, and before which.

lambda_decay        the two-phase schedule of the evidence weight
adaptive_lambda     the same, with a second phase that begins when the reward stops rising
lambda_control      where both write, and alarms lower, lambda; no callback itself
leakage_probe       signs that the policy leans on a reference nobody gave it, and alarms
teacher_sync        policy -> teacher
weight_sync         policy -> rollout engine
step_checkpoint     checkpoints at the ends of steps, from which a run goes on exactly
graceful_stop       Ctrl-C and SIGTERM: finish the step, save, say how to go on
rank_watch          with several processes: one that is gone ends the others, with its name
rollout_recorder    every completion as JSONL, with its tokens now and then
prediction_writer   completions with verdicts of `predict`
progress            reward, accuracy, lambda, clipped fraction, tokens/s
credit_heatmap      tokens coloured by credit, a page and a picture per chosen step
report_writer       report.html at the end, however it comes
"""
