# Astro Runtime with Airflow 3.3. Its ONBUILD steps install packages.txt and requirements.txt
# and copy the project to /usr/local/airflow.
FROM astrocrpublic.azurecr.io/runtime:3.3-8

# The provider is part of the project, so it is installed after the project was copied.
# GIT_PYTHON_REFRESH: no long warning from MLflow if the image has no git.
USER root
RUN uv pip install --system --no-cache-dir -c /etc/pip-constraints.txt /usr/local/airflow/provider
USER astro
ENV GIT_PYTHON_REFRESH=quiet
