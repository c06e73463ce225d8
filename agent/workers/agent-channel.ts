import { errorOfProblem } from '../../shared/protocol/problem.ts';
import { ERROR_CODES, PicketError } from '../../shared/errors/errors.ts';
import type { AuditAnswer, FramedBatch } from '../../shared/protocol/audit.ts';
import type { Beginning, FromWorker, ToWorker } from './worker-messages.ts';

/** What a worker does when its agent speaks, after the beginning. */
export interface AgentListener {
  readonly know: (message: Extract<ToWorker, { kind: 'know' }>['change']) => void;
  readonly policy: (policy: Beginning['policy']) => void;
  readonly report: (id: number) => void;
  readonly moveSpool: (id: number, isAside: boolean) => void;
  readonly drain: (withinMs: number) => void;
  readonly namespace: (message: Extract<ToWorker, { kind: 'namespace' }>) => void;
  readonly namespaceGone: (cookie: string) => void;
  readonly routes: (routed: Extract<ToWorker, { kind: 'routes' }>['routed']) => void;
  readonly stop: () => void;
}

/** A worker's end of the channel to the agent that started it. */
export class AgentChannel {
  readonly #beginning = Promise.withResolvers<Beginning>();
  readonly #mayListen = Promise.withResolvers<void>();
  readonly #shipped = new Map<number, PromiseWithResolvers<AuditAnswer>>();
  /** What came before anybody listened. */
  #early: ToWorker[] = [];
  #listener: AgentListener | undefined;
  #lastId = 0;

  /** `onLost` hears that the agent has ended. Throws `failed_precondition`, reason `not_a_worker`, in a process that no agent started. */
  constructor(onLost: () => void) {
    if (process.send === undefined)
      throw new PicketError(
        'failed_precondition',
        'not_a_worker',
        'Workers are started by the agent (proxy.workers)',
      );
    process.on('message', (message: ToWorker) => this.#heard(message));
    process.on('disconnect', onLost);
  }

  /** What the agent says first. */
  get beginning(): Promise<Beginning> {
    return this.#beginning.promise;
  }

  /** Says that all is prepared, and waits until connections may be taken. */
  async awaitTurn(): Promise<void> {
    this.tell({ kind: 'prepared' });
    await this.#mayListen.promise;
  }

  /** Hands over what came and comes, in its order. */
  listen(listener: AgentListener): void {
    this.#listener = listener;
    for (const message of this.#early.splice(0)) this.#heard(message);
  }

  tell(message: FromWorker): void {
    process.send?.(message);
  }

  /** Has the agent send records to the server. Rejects with what the server refused. */
  async ship(batch: FramedBatch): Promise<AuditAnswer> {
    const id = ++this.#lastId;
    const waiting = Promise.withResolvers<AuditAnswer>();
    this.#shipped.set(id, waiting);
    const { epoch, gap, frames } = batch;
    const bytes = Buffer.from(frames.buffer, frames.byteOffset, frames.byteLength);
    this.tell({ kind: 'ship', id, batch: { epoch, gap, frames: bytes.toString('base64') } });
    return await waiting.promise.finally(() => this.#shipped.delete(id));
  }

  #heard(message: ToWorker): void {
    if (message.kind === 'begin') this.#beginning.resolve(message);
    else if (message.kind === 'listen') this.#mayListen.resolve();
    else if (message.kind === 'shipped') this.#shipped.get(message.id)?.resolve(message.answer);
    else if (message.kind === 'not_shipped') {
      const { problem } = message;
      this.#shipped.get(message.id)?.reject(errorOfProblem(problem, ERROR_CODES[problem.code].httpStatus));
    } else if (this.#listener === undefined) this.#early.push(message);
    else this.#dispatch(message, this.#listener);
  }

  #dispatch(
    message: Exclude<ToWorker, { kind: 'begin' | 'listen' | 'shipped' | 'not_shipped' }>,
    listener: AgentListener,
  ): void {
    switch (message.kind) {
      case 'know':
        return listener.know(message.change);
      case 'policy':
        return listener.policy(message.policy);
      case 'report':
        return listener.report(message.id);
      case 'move_spool':
        return listener.moveSpool(message.id, message.isAside);
      case 'drain':
        return listener.drain(message.withinMs);
      case 'namespace':
        return listener.namespace(message);
      case 'namespace_gone':
        return listener.namespaceGone(message.cookie);
      case 'routes':
        return listener.routes(message.routed);
      case 'stop':
        return listener.stop();
    }
  }
}
