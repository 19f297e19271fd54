"""The engine chatglm-cpp. Nothing else imports chatglm_cpp."""
