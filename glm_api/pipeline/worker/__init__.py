"""The code that runs in the children of the web process; nothing else imports chatglm_cpp.

``python -m glm_api.pipeline.worker ROLE FD PARENT``: the role is ``pipeline`` or ``tokenizer``, FD the number of the
inherited socket, PARENT the process id of the web process.
"""
