// Verifies a request's token by a TokenReview of Kubernetes, and whose token it is.
// https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
import fs from 'fs';

const AUDIENCE = 'mlflow';
const ALLOWED = ['api-server', 'dag-processor', 'scheduler', 'triggerer', 'worker'].map(
    (name) => `system:serviceaccount:airflow:airflow-${name}`
);

async function check(request) {
    const token = (request.headersIn.Authorization || '').replace(/^Bearer /i, '');
    if (!token) return request.return(401);
    const spec = { token, audiences: [AUDIENCE] };
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
    const reply = await request.subrequest('/token-review', { method: 'POST', body: JSON.stringify(review) });
    if (reply.status != 201) {
        request.error(`TokenReview: ${reply.status} ${reply.responseText}`);
        return request.return(500);
    }
    const status = JSON.parse(reply.responseText).status;
    if (!status.authenticated) return request.return(401);
    request.return(ALLOWED.includes(status.user.username) ? 204 : 403);
}

function own_token() {
    return fs.readFileSync('/var/run/secrets/account/token', 'utf8'); // Kubernetes renews the file
}

export default { check, own_token };
