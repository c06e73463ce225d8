import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { Capture, CaptureBackend, CaptureSettings } from './capture.ts';
import type { KeptReturnRoutes, ReturnPathStatus } from './kept-return-routes.ts';
import { splitTransparentPorts, type TransparentPorts } from './resolved-settings.ts';
import { RepairPace } from './repair-pace.ts';
import type { UserRange } from '../subordinate-users/subordinate-users.ts';
import { startRulesWatch, type OpenRulesWatch, type RulesWatch } from './rules-watch.ts';

export interface CaptureKeeperOptions {
  readonly capture: Capture;
  /** Everything but what changes with registration. */
  readonly settings: Omit<CaptureSettings, keyof RegisteredPorts | 'userRanges'>;
  readonly registered: () => RegisteredPorts;
  /** Which users are one; looked at as often as the rules are. */
  readonly userRanges?: () => readonly UserRange[];
  /** Calls back after what is registered may have changed. */
  readonly watchRegistered: (listener: () => void) => () => void;
  /** Where connections may be made from callers' addresses. */
  readonly returnRoutes?: KeptReturnRoutes;
  /** Hears of changes in the kernel. */
  readonly openRulesWatch: OpenRulesWatch;
  /** How often the kernel is asked whether the rules are still ours, whatever was heard, in milliseconds; 5 s unless given. */
  readonly lookEveryMs?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What registration says of this host, or of a namespace of it. */
export type RegisteredPorts = Pick<CaptureSettings, 'localPorts' | 'transparentPorts'>;

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
  readonly transparentPorts: TransparentPorts;
  /** Where listeners of this host ask for connections from callers' addresses. */
  readonly returnPath?: ReturnPathStatus;
}

export interface CaptureKeeper extends Running {
  readonly status: CaptureStatus;
}

const LOOK_EVERY_MS = 5000;

/**
 * Installs the rules, follows registration, and undoes what others do to the rules: Debian's own nftables.conf begins with a flush. Throws
 * when the rules cannot be installed at start. Stopping leaves them in place, and nobody says any more that they are intact.
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
  #transparentPorts: TransparentPorts = { steered: [], leftAlone: [] };
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
    const returnPath = this.#options.returnRoutes?.status;
    return {
      backend: this.#options.capture.backend,
      isIntact: this.#isIntact,
      repairs: this.#repairs,
      isWatched: this.#watch?.isHearing === true,
      isContested: this.#pace.isContested(this.#nowMs()),
      ...(this.#changedBy === undefined ? {} : { changedBy: this.#changedBy }),
      transparentPorts: this.#transparentPorts,
      ...(returnPath === undefined ? {} : { returnPath }),
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
    this.#unwatchPorts = this.#options.watchRegistered(
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
    // Nobody looks any more.
    this.#isIntact = false;
  }

  async #follow(): Promise<void> {
    if (JSON.stringify(this.#changing()) !== this.#applied) await this.#apply();
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
    this.#keepReturnRoutes();
    if (await this.#options.capture.isIntact()) return await this.#follow();
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
    const changing = this.#changing();
    const settings = { ...this.#options.settings, ...changing };
    await this.#options.capture.apply(settings);
    this.#transparentPorts = splitTransparentPorts(settings);
    const applied = JSON.stringify(changing);
    if (applied !== this.#applied) this.#tellApplied(changing);
    this.#applied = applied;
    this.#isIntact = true;
    this.#keepReturnRoutes();
  }

  #changing(): Pick<CaptureSettings, keyof RegisteredPorts | 'userRanges'> {
    const { registered, userRanges } = this.#options;
    return { ...registered(), userRanges: userRanges?.() ?? [] };
  }

  #tellApplied({ localPorts }: RegisteredPorts): void {
    const { steered, leftAlone } = this.#transparentPorts;
    this.#options.log.info('capture_applied', {
      local_ports: localPorts,
      ...(steered.length === 0 ? {} : { transparent_ports: steered }),
      ...(leftAlone.length === 0 ? {} : { transparent_left_alone: leftAlone }),
    });
  }

  /** Behind the rules that keep what needs them on this host: without the rules they would do nothing. */
  #keepReturnRoutes(): void {
    this.#options.returnRoutes?.keep(this.#transparentPorts.steered.length > 0);
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
