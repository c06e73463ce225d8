import type { PicketError } from '../../../shared/errors/errors.ts';
import type { Refusal } from '../judge/judge.ts';

/** What is recorded of a program to which we could not stand for its server: why `acceptTls` rejected. */
export function refusalOfProgram({ reason, message }: PicketError): Refusal {
  if (reason === 'socket_pair_failed')
    return { reason: 'overloaded', message: `No TLS of the program can be ended here: ${message}` };
  return { reason: 'inspection_refused', message: explain(reason, message) };
}

function explain(reason: string, why: string): string {
  if (why === 'ETIMEDOUT') return 'The program did not end its TLS handshake in time';
  if (reason === 'dial_failed' || why === 'ECONNRESET')
    return `The program left within its TLS handshake, perhaps because it does not trust the authority that inspects: ${why}`;
  return `The program broke its TLS off, which it does where it does not trust the authority that inspects: ${why}`;
}
