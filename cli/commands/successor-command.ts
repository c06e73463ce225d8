import { PicketError } from '../../shared/errors/errors.ts';
import type { HandoverChannel } from '../../agent/handover/predecessor.ts';

/** Where the sources of a compiled executable seem to be. */
export const EMBEDDED = '/$bunfs/';

/** Runs an agent that takes over from this process: the file that stands now where this one came from, in the same role with the same settings. */
export function successorCommand(config: string, role: readonly string[]): readonly string[] {
  const program = Bun.main.startsWith(EMBEDDED) ? [process.execPath] : [process.execPath, Bun.main];
  return [...program, ...role, '--config', config, '--take-over'];
}

/** The channel to the agent that started this process. Throws `failed_precondition`, reason `not_a_successor`, when nobody did. */
export function handoverChannel(): HandoverChannel {
  const send = process.send?.bind(process);
  if (send === undefined || !process.connected)
    throw new PicketError(
      'failed_precondition',
      'not_a_successor',
      'Cannot take over: no agent started this process. Give `picket agent upgrade` instead',
    );
  return {
    send: (message) => void send(message),
    onMessage: (listener) => void process.on('message', listener),
    onEnd: (listener) => void process.on('disconnect', listener),
    close: () => {
      if (process.connected) process.disconnect?.();
    },
  };
}
