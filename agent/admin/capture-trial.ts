import { spawn } from 'node:child_process';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PicketError } from '../../shared/errors/errors.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { CaptureSettings } from '../capture/capture.ts';
import type { TryableCapture } from '../capture/tryable-capture.ts';

export interface CaptureTrialOptions {
  readonly capture: TryableCapture;
  /** For what undoes the trial: nobody but root may write there, and a reboot empties it, as it undoes the rules. */
  readonly folder: string;
  readonly clock: Clock;
}

/** What waits for its confirmation, and what it becomes when one of the two ends of a trial takes it. */
const PENDING = 'capture-trial.nft';
const CONFIRMED = 'capture-trial.confirmed';
const UNDONE = 'capture-trial.undone';
/** The first line of what waits. */
const UNTIL = /^# until (\d{1,15})\n/;
/** A guard that has not done its work so long after its time is dead. */
const GRACE_MS = 10_000;
const MAX_TRIAL_SECONDS = 3600;

/**
 * Waits, makes sure that it is still its own trial that waits, takes what undoes it away from a confirmation that may come at the same moment, and
 * undoes it.
 */
const GUARD = 'sleep "$1" && grep -qxF -- "$2" "$3" && mv "$3" "$4" && shift 4 && exec "$@"';

/**
 * Tries capture rules on a host that one is connected to: a process of its own, which outlives the terminal, brings back what was there unless `confirm` comes in
 * time. Nothing is kept for the next boot before that.
 */
export class CaptureTrial {
  readonly #options: CaptureTrialOptions;
  readonly #pending: string;

  constructor(options: CaptureTrialOptions) {
    this.#options = options;
    this.#pending = join(options.folder, PENDING);
  }

  /**
   * Applies the rules for `seconds`; the answer is when they are undone, in milliseconds since 1970. Throws `failed_precondition`: reason `capture_trial_pending`
   * when another trial waits, or what `buildRestoreScript` and `applyUntilReboot` say. `invalid_argument`, reason `trial_length_invalid`, beyond an hour.
   */
  async begin(settings: CaptureSettings, seconds: number): Promise<number> {
    if (seconds < 1 || seconds > MAX_TRIAL_SECONDS)
      throw new PicketError(
        'invalid_argument',
        'trial_length_invalid',
        `Cannot try rules for ${seconds} s: from 1 to ${MAX_TRIAL_SECONDS} s are possible`,
      );
    const { capture, clock, folder } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o755 });
    await this.#requireNonePending();
    const untilMs = clock.nowMs() + seconds * 1000;
    const title = `# until ${untilMs}`;
    await this.#writePending(`${title}\n${await capture.buildRestoreScript()}`);
    // First the way back, then the rules: they may cut off whoever runs this.
    this.#startGuard(seconds, title);
    try {
      await capture.applyUntilReboot(settings);
    } catch (error) {
      await rm(this.#pending, { force: true });
      throw error;
    }
    return untilMs;
  }

  /** Keeps the rules that are being tried, for the next boot as well. Throws `failed_precondition`, reason `capture_trial_missing`, when there are none, or no longer. */
  async confirm(): Promise<void> {
    const confirmed = join(this.#options.folder, CONFIRMED);
    try {
      await rename(this.#pending, confirmed);
    } catch (cause) {
      throw new PicketError(
        'failed_precondition',
        'capture_trial_missing',
        'No capture rules wait for a confirmation: none were tried, or they were undone already',
        { cause },
      );
    }
    await this.#options.capture.keep();
    await rm(confirmed, { force: true });
  }

  async #requireNonePending(): Promise<void> {
    const text = await readFile(this.#pending, 'utf8').catch(() => undefined);
    if (text === undefined) return;
    const untilMs = Number(UNTIL.exec(text)?.[1] ?? 0);
    if (this.#options.clock.nowMs() > untilMs + GRACE_MS) return await rm(this.#pending, { force: true });
    throw new PicketError(
      'failed_precondition',
      'capture_trial_pending',
      `Other capture rules are being tried until ${new Date(untilMs).toISOString()}: confirm them or wait`,
    );
  }

  async #writePending(script: string): Promise<void> {
    const file = await open(this.#pending, 'wx', 0o600);
    try {
      await file.writeFile(script);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** A session of its own: the end of a terminal does not reach it. */
  #startGuard(seconds: number, title: string): void {
    const undone = join(this.#options.folder, UNDONE);
    const restore = this.#options.capture.restoreCommand(undone);
    const guard = spawn(
      '/bin/sh',
      ['-c', GUARD, 'picket-capture-trial', String(seconds), title, this.#pending, undone, ...restore],
      {
        detached: true,
        stdio: 'ignore',
        cwd: '/',
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
      },
    );
    guard.unref();
  }
}
