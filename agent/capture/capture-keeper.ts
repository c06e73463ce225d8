import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { Capture, CaptureBackend, CaptureSettings } from './capture.ts';
import { RepairPace } from './repair-pace.ts';
import { startRulesWatch, type OpenRulesWatch, type RulesWatch } from './rules-watch.ts';

export interface CaptureKeeperOptions {
  readonly capture: Capture;
  /** Everything but the local ports, which change with registration. */
  readonly settings: Omit<CaptureSettings, 'localPorts'>;
  readonly localPorts: () => readonly number[];
  /** Calls back after the local ports may have changed. */
  readonly watchLocalPorts: (listener: () => void) => () => void;
  /** Hears of changes in the kernel. */
  readonly openRulesWatch: OpenRulesWatch;
  /** How often the kernel is asked whether the rules are still ours, whatever was heard, in milliseconds; 5 s unless given. */
  readonly lookEveryMs?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** How the rules stand, for metrics and status. */
export interface CaptureStatus {
  readonly backend: CaptureBackend;
  readonly isIntact: boolean;
  /** How often somebody else's change was undone since start. */
  readonly repairs: number;
  /** Whether changes are heard of at once; otherwise they are found within five seconds. */
  readonly isWatched: boolean;
  /** Whether somebody takes the rules away again and again. */
  readonly isContested: boolean;
  /** Who made the change that was undone last, where that was heard. */
  readonly changedBy?: string;
}

export interface CaptureKeeper extends Running {
  readonly status: CaptureStatus;
}

const LOOK_EVERY_MS = 5000;

/**
 * Installs the rules, follows registration, and undoes what others do to the rules: Debian's own nftables.conf begins with a flush (design: decision 6). Throws
 * when the rules cannot be installed at start. Stopping leaves them in place: they then point at nothing.
 */
export async function startCaptureKeeper(options: CaptureKeeperOptions): Promise<CaptureKeeper> {
  const keeper = new Keeper(options);
  await keeper.start();
  return keeper;
}

class Keeper implements CaptureKeeper {
  readonly #options: CaptureKeeperOptions;
  readonly #pace = new RepairPace();
  #watch: RulesWatch | undefined;
  #unwatchPorts: () => void = () => undefined;
  #cancelLook: () => void = () => undefined;
  #isLookDue = false;
  #applied = '';
  #isIntact = false;
  #repairs = 0;
  #changedBy: string | undefined;
  #heardAtMs: number | undefined;
  #isStopped = false;
  #last: Promise<void> = Promise.resolve();

  constructor(options: CaptureKeeperOptions) {
    this.#options = options;
  }

  get status(): CaptureStatus {
    return {
      backend: this.#options.capture.backend,
      isIntact: this.#isIntact,
      repairs: this.#repairs,
      isWatched: this.#watch?.isHearing === true,
      isContested: this.#pace.isContested(this.#nowMs()),
      ...(this.#changedBy === undefined ? {} : { changedBy: this.#changedBy }),
    };
  }

  async start(): Promise<void> {
    const { openRulesWatch, capture, clock, log } = this.#options;
    await this.#apply();
    this.#watch = await startRulesWatch({
      open: openRulesWatch,
      isOwn: (pid) => capture.isOwn(pid),
      onChange: (author) => this.#hear(author),
      clock,
      log,
    });
    // What was done before it was heard.
    await this.#enqueue(async () => await this.#look());
    this.#unwatchPorts = this.#options.watchLocalPorts(
      () => void this.#enqueue(async () => await this.#follow()),
    );
    this.#scheduleLook();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unwatchPorts();
    this.#cancelLook();
    await this.#watch?.stop();
    await this.#last;
  }

  async #follow(): Promise<void> {
    if (JSON.stringify(this.#options.localPorts()) !== this.#applied) await this.#apply();
  }

  /** Changes that come while one look is due are found by that look. */
  #hear(author: string | undefined): void {
    this.#changedBy = author ?? this.#changedBy;
    this.#heardAtMs ??= this.#nowMs();
    if (this.#isLookDue || this.#isStopped) return;
    this.#isLookDue = true;
    void this.#enqueue(async () => {
      await this.#pause();
      await this.#look();
    });
  }

  async #pause(): Promise<void> {
    const pauseMs = this.#pace.pauseMs(this.#nowMs());
    if (pauseMs === 0) return;
    await new Promise<void>((resolve) => this.#options.clock.schedule(pauseMs, resolve));
  }

  async #look(): Promise<void> {
    const sinceMs = this.#heardAtMs ?? this.#nowMs();
    this.#heardAtMs = undefined;
    this.#isLookDue = false;
    if (await this.#options.capture.isIntact()) return;
    this.#isIntact = false;
    await this.#apply();
    this.#repairs += 1;
    this.#pace.repaired(this.#nowMs());
    this.#tellRepair(sinceMs);
  }

  #tellRepair(sinceMs: number): void {
    const repairedMs = Math.round(this.#nowMs() - sinceMs);
    const told = { repairs: this.#repairs, by: this.#changedBy, repaired_ms: repairedMs };
    if (this.#pace.shouldTell(this.#nowMs())) this.#options.log.error('capture_rules_contested', told);
    else if (!this.#pace.isContested(this.#nowMs())) this.#options.log.error('capture_rules_changed', told);
  }

  async #apply(): Promise<void> {
    const localPorts = this.#options.localPorts();
    await this.#options.capture.apply({ ...this.#options.settings, localPorts });
    const applied = JSON.stringify(localPorts);
    if (applied !== this.#applied) this.#options.log.info('capture_applied', { local_ports: localPorts });
    this.#applied = applied;
    this.#isIntact = true;
  }

  /** A failure is told and tried again at the next look: until then the old rules, or somebody else's flush, stand. */
  #enqueue(work: () => Promise<void>): Promise<void> {
    this.#last = this.#runAfter(this.#last, work);
    return this.#last;
  }

  async #runAfter(before: Promise<void>, work: () => Promise<void>): Promise<void> {
    await before;
    if (this.#isStopped) return;
    try {
      await work();
    } catch (error) {
      this.#isIntact = false;
      this.#options.log.error('capture_failed', { error });
    }
  }

  #scheduleLook(): void {
    if (this.#isStopped) return;
    this.#cancelLook = this.#options.clock.schedule(
      this.#options.lookEveryMs ?? LOOK_EVERY_MS,
      () => void this.#lookAndGoOn(),
    );
  }

  async #lookAndGoOn(): Promise<void> {
    await this.#enqueue(async () => await this.#look());
    this.#scheduleLook();
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs();
  }
}
