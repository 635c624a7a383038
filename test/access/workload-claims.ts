// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What tokens of workloads say, as their issuers document it. */
import type { WorkloadClaims } from '../support/issuer.js';

export const audience = 'registry.example';

/** A job of GitHub Actions. */
export function githubClaims(more: WorkloadClaims = {}): WorkloadClaims {
  return {
    sub: 'repo:org/app:ref:refs/heads/main',
    aud: audience,
    ref: 'refs/heads/main',
    sha: '3d5b3a7c0f0e5a1bb6ef9f3a3c1c1d0f2a4e6b88',
    repository: 'org/app',
    repository_owner: 'org',
    actor_id: '12',
    repository_visibility: 'private',
    repository_id: '74',
    repository_owner_id: '65',
    run_id: '8675309',
    run_number: '10',
    run_attempt: '2',
    runner_environment: 'github-hosted',
    actor: 'octocat',
    workflow: 'build',
    head_ref: '',
    base_ref: '',
    event_name: 'push',
    ref_protected: 'true',
    ref_type: 'branch',
    job_workflow_ref: 'org/app/.github/workflows/build.yml@refs/heads/main',
    ...more,
  };
}

/** An `id_tokens` entry of a GitLab job. */
export function gitlabClaims(more: WorkloadClaims = {}): WorkloadClaims {
  return {
    sub: 'project_path:group/project:ref_type:branch:ref:main',
    aud: audience,
    namespace_id: '72',
    namespace_path: 'group',
    project_id: '20',
    project_path: 'group/project',
    user_id: '1',
    user_login: 'sample-user',
    user_email: 'sample-user@example.com',
    user_access_level: 'developer',
    user_identities: [{ provider: 'github', extern_uid: '2435223452345' }],
    pipeline_id: '574',
    pipeline_source: 'push',
    job_id: '302',
    ref: 'main',
    ref_type: 'branch',
    ref_path: 'refs/heads/main',
    ref_protected: 'true',
    groups_direct: ['group/ops', 'admin'],
    runner_id: 1,
    runner_environment: 'self-hosted',
    sha: '714a629c0b401fdce83e847fc9589983fc6f46bc',
    project_visibility: 'public',
    ...more,
  };
}

/** A projected token of a service account. */
export function kubernetesClaims(namespace: string, account: string, more: WorkloadClaims = {}): WorkloadClaims {
  return {
    sub: `system:serviceaccount:${namespace}:${account}`,
    aud: [audience],
    'kubernetes.io': {
      namespace,
      node: { name: 'node-1', uid: '646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1' },
      pod: { name: 'build-5d4c', uid: '5e0bd49b-f040-43b0-99b7-22765a53f7f3' },
      serviceaccount: { name: account, uid: '14ee3fa4-a7e2-420f-9f9a-dbc4507c3798' },
    },
    ...more,
  };
}
