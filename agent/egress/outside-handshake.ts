import { createHash, X509Certificate } from 'node:crypto';
import { describeError, PicketError } from '../../shared/errors/errors.ts';
import { handshakeFailure } from '../../shared/runtime/handshake-failure.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { dialForTraffic } from '../native/dial.ts';
import type { OutsideServer } from './certificate-check.ts';
import type { ProvenCertificate } from './certificate-proof.ts';
import { OUTSIDE_TLS } from './outside-tls.ts';

export interface OutsideHandshake extends OutsideServer {
  /** Certificates (PEM) that alone count as authorities; undefined: nobody needs to vouch. */
  readonly authorityPem: string | undefined;
  /** As `dialForTraffic` takes it. */
  readonly mark: number;
  readonly clock: Clock;
}

type Outcome = ProvenCertificate | { readonly failure: string };

interface State {
  readonly settle: (outcome: Outcome) => void;
  readonly handshake: OutsideHandshake;
}

type Socket = Bun.Socket<State>;

/**
 * A TLS handshake with an outside server, of 1.2 or 1.3, which carries nothing and is ended at once. A handshake that ends well has proven the key: the server has signed it. Rejects
 * with `unavailable`, reason `certificate_unknown`.
 */
export async function shakeHands(handshake: OutsideHandshake): Promise<ProvenCertificate> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const cancel = handshake.clock.schedule(OUTSIDE_TLS.timeoutMs, () =>
    resolve({ failure: 'it did not answer in time' }),
  );
  const socket = start(handshake, resolve);
  const outcome = await promise;
  cancel();
  // Nobody waits for its end.
  void socket.then((opened) => opened?.terminate());
  if ('failure' in outcome) throw new PicketError('unavailable', 'certificate_unknown', outcome.failure);
  return outcome;
}

async function start(
  handshake: OutsideHandshake,
  settle: (outcome: Outcome) => void,
): Promise<Socket | undefined> {
  const { authorityPem, serverName } = handshake;
  const tls = {
    ...(authorityPem === undefined ? {} : { ca: authorityPem }),
    ...(serverName === '' ? {} : { serverName }),
    minVersion: OUTSIDE_TLS.minVersion,
    // Judged below, with the reason.
    rejectUnauthorized: false,
  };
  try {
    const options = { fd: dialForTraffic(handshake), tls, data: { settle, handshake }, socket: handlers };
    return await Bun.connect(options as unknown as Bun.TCPSocketConnectOptions<State>);
  } catch (error) {
    settle({ failure: describeError(error) });
    return undefined;
  }
}

const handlers = {
  handshake: (socket: Socket, isFinished: boolean, error: Error | null | undefined) =>
    socket.data.settle(outcomeOf(socket, { isFinished, error: error ?? undefined })),
  data: () => undefined,
  close: (socket: Socket, error?: Error) => socket.data.settle({ failure: whyClosed(error) }),
  error: (socket: Socket, error: Error) => socket.data.settle({ failure: whyClosed(error) }),
  connectError: (socket: Socket, error: Error) => socket.data.settle({ failure: whyClosed(error) }),
};

function outcomeOf(
  socket: Socket,
  { isFinished, error }: { readonly isFinished: boolean; readonly error: Error | undefined },
): Outcome {
  const failure = handshakeFailure(isFinished, error ?? null);
  if (failure !== undefined) return { failure };
  return proofOf(socket, { ...socket.data.handshake, error }) ?? { failure: 'it has none' };
}

/** How a proof is judged. */
type Judged = Pick<OutsideHandshake, 'authorityPem' | 'serverName' | 'address'> & {
  /** Bun's judgement of the certificate. */
  readonly error: Error | undefined;
};

/** What the other end of a handshake that ended well has proven; undefined where it showed no certificate. */
export function proofOf(socket: Bun.Socket<unknown>, judged: Judged): ProvenCertificate | undefined {
  const raw = socket.getPeerX509Certificate()?.raw;
  if (raw === undefined) return undefined;
  const { authorityPem, error } = judged;
  const certificate = new X509Certificate(raw);
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  const isVouched = authorityPem === undefined || error === undefined;
  return {
    spkiSha256: createHash('sha256').update(spki).digest('hex'),
    distrust: isVouched ? nameFaultOf(certificate, judged) : describeError(error),
  };
}

/** An authority vouches for a certificate under its names alone. */
function nameFaultOf(
  certificate: X509Certificate,
  { authorityPem, serverName, address }: Judged,
): string | undefined {
  if (authorityPem === undefined) return undefined;
  const name =
    serverName === ''
      ? certificate.checkIP(address)
      : certificate.checkHost(serverName, { subject: 'never' });
  return name === undefined ? `it is not for ${serverName || address}` : undefined;
}

function whyClosed(error: Error | undefined): string {
  return error === undefined ? 'it ended the handshake' : describeError(error);
}
