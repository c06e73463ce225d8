import { PicketError } from '../../shared/errors/errors.ts';

/** `unavailable`, reason `tpm_unreachable`. */
export function tpmUnreachable(message: string, cause?: unknown): PicketError {
  return new PicketError('unavailable', 'tpm_unreachable', `Cannot talk to the TPM: ${message}`, { cause });
}

/** `deadline_exceeded`, reason `tpm_timeout`. */
export function tpmTimeout(timeoutMs: number): PicketError {
  return new PicketError('deadline_exceeded', 'tpm_timeout', `The TPM did not answer within ${timeoutMs} ms`);
}
